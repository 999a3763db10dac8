"""Local copies of runs in buckets, so that files are read and written locally."""

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from isojax.errors import UsageError, first_line
from isojax.output import print_line, show_as, with_shown_names
from isojax.runs import layout
from isojax.runs.bucket import Bucket, is_url
from isojax.runs.lease import Lease, hold_lease
from isojax.runs.lock import run_lock

# Files that isojax reads again; others, such as figures and weights, are only uploaded.
_READ_SUFFIXES = (".json", ".jsonl", ".npz")
_NOT_LISTED = (
    layout.CHECKPOINTS_FOLDER,
    layout.LOCK_FILE,
    layout.TENSORBOARD_FOLDER,
    layout.WANDB_FOLDER,
)
_HISTORY = (layout.METRICS_FILE, layout.SPECTRUM_FILE)
_PREFIX, _OWNED = "isojax-bucket-", "in_use"

_open: "dict[Path, Mirror]" = {}


def find_mirror(folder: str | os.PathLike) -> "Mirror | None":
    """Returns the open mirror with this local folder, or None for any other folder."""
    return _open.get(Path(folder))


def refresh(folder: str | os.PathLike, part: str = "") -> None:
    """Downloads the files of a mirror again, or those of a folder in it.

    Does nothing for any other folder.

    Raises:
      BucketError: if a file cannot be read.
    """
    if mirror := find_mirror(folder):
        mirror.refresh(part)


def upload(folder: str | os.PathLike) -> None:
    """Uploads the changed files of a mirror; does nothing for any other folder.

    Raises:
      UsageError: if another process has taken over the run.
      BucketError: if a file cannot be uploaded.
    """
    if mirror := find_mirror(folder):
        mirror.upload()


@contextmanager
def lock_part(
    folder: Path, part: str = "", *, on_loss: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Holds the lock of a folder in a local folder or in the bucket of a mirror.

    Args:
      folder: the local folder, or the folder of a mirror.
      part: name of the folder in it, which is created if it does not exist; by default
        `folder` itself.
      on_loss: called, in another thread, if another process takes over the lease.

    Raises:
      InUseError: if another live process holds the lock.
      OSError: if the lock cannot be written.
    """
    if mirror := find_mirror(folder):
        bucket = Bucket(f"{mirror.bucket.url}/{part}" if part else mirror.bucket.url)
        with hold_lease(bucket) as lease:
            lease.on_loss(on_loss)
            yield
    else:
        (folder / part).mkdir(parents=True, exist_ok=True)
        with run_lock(folder / part):
            yield


def upload_history_later(folder: str | os.PathLike) -> None:
    """Uploads metrics and spectrum of a mirror in the background.

    Does nothing for any other folder. If the upload fails, one line is logged, and the
    next upload includes them.
    """
    if mirror := find_mirror(folder):
        mirror.upload_history_later()


def check_owner(folder: str | os.PathLike) -> None:
    """Checks that this process still holds the lease of a mirror.

    Does nothing for any other folder, and if the bucket cannot be read.

    Raises:
      UsageError: if another process has taken over the run.
    """
    if (mirror := find_mirror(folder)) and mirror.lease:
        with suppress(OSError):
            mirror.lease.check()


def names_in(folder: Path) -> list[str]:
    """Returns the names of the files and folders in a run's folder, or in its bucket.

    Raises:
      OSError: if they cannot be listed.
    """
    if mirror := find_mirror(folder):
        objects, folders = mirror.bucket.list()
        return objects + folders
    return [path.name for path in folder.iterdir()]


def original_path(folder: str | os.PathLike) -> str:
    """Returns the URL of a mirror, or the absolute path of any other folder."""
    mirror = find_mirror(folder)
    return mirror.bucket.url if mirror else str(Path(folder).absolute())


def shown_path(path: str | os.PathLike) -> Path | str:
    """Returns the URL of a file in a mirror, or any other path unchanged."""
    shown = with_shown_names(os.fspath(path))
    return shown if is_url(shown) else Path(shown)


class Mirror:
    """A local copy of the small files of a run in a bucket.

    Attributes:
      bucket: the run in the bucket.
      folder: the local folder. It has the name of the run.
      lease: the lease of the run, if this process trains it.
    """

    def __init__(self, bucket: Bucket, folder: Path, lease: Lease | None = None):
        """Downloads the files of the run.

        Args:
          bucket: the run in the bucket.
          folder: an empty local folder.
          lease: the lease of the run, if this process trains it.

        Raises:
          BucketError: if a file cannot be read.
        """
        self.bucket, self.folder, self.lease = bucket, folder, lease
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._metrics_size = 0  # bytes in the bucket
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._sending: Future[None] | None = None
        self.refresh()

    def refresh(self, folder: str = "") -> None:
        """Downloads the files of the run again, or those of a folder in it."""
        with self._lock:
            try:
                self._download(folder)
            except FileNotFoundError:  # deleted by another process after the listing
                self._download(folder)
            self._metrics_size = self._size(layout.METRICS_FILE)

    def upload(self) -> None:
        """Uploads the files that have changed and deletes those that were deleted.

        Raises:
          UsageError: if another process has taken over the run.
          BucketError: if a file cannot be uploaded.
        """
        with self._lock:
            self._check_owner()
            names = [str(path.relative_to(self.folder)) for path in self._files()]
            self._upload([name for name in names if name == layout.CONFIG_FILE])
            self._upload_history()
            self._upload([name for name in names if name not in _HISTORY])
            gone = [n for n in self._uploaded if not (self.folder / n).exists()]
            self.bucket.delete(gone)
            for name in gone:
                del self._uploaded[name]

    def check_writable(self) -> None:
        """Writes and deletes an object.

        Raises:
          BucketError: if this fails.
        """
        name = f".writable-{uuid.uuid4().hex}"
        self.bucket.write(name, b"")
        self.bucket.delete([name])

    def upload_history_later(self) -> None:
        """Uploads metrics and spectrum in the background; see the function."""
        is_waiting = self._sending and not (
            self._sending.running() or self._sending.done()
        )
        if not is_waiting:
            self._sending = self._worker.submit(self._send_history)

    def close(self) -> None:
        """Waits for uploads in the background."""
        self._worker.shutdown()

    def _send_history(self) -> None:
        try:
            with self._lock:
                self._check_owner()
                self._upload_history()
        except UsageError:
            pass  # taken over by another process, which ends the run
        except OSError as error:
            print_line(
                f"The metrics could not be uploaded to {self.bucket.url} "
                f"({first_line(error)}); they are uploaded with the next epoch."
            )

    def _check_owner(self) -> None:
        if self.lease is not None:
            self.lease.check()

    def _upload_history(self) -> None:
        """Uploads metrics and spectrum so that the metrics always have more epochs."""
        states = self._states(_HISTORY)
        contents = {
            name: (self.folder / name).read_bytes()
            for name in (layout.SPECTRUM_FILE, layout.METRICS_FILE)  # see `refresh`
            if name in states
        }
        size = len(contents.get(layout.METRICS_FILE, b""))
        # A resumed run has fewer epochs than the bucket until it has repeated them.
        for name in _HISTORY if size >= self._metrics_size else reversed(_HISTORY):
            if name in contents and self._uploaded.get(name) != states[name]:
                self.bucket.write(name, contents[name])
                self._uploaded[name] = states[name]
            elif name not in contents and name in self._uploaded:
                self.bucket.delete([name])
                del self._uploaded[name]
        self._metrics_size = size

    def _upload(self, names: Iterable[str]) -> None:
        states = self._states(names)
        changed = [n for n, state in states.items() if self._uploaded.get(n) != state]
        if changed:
            self.bucket.upload({name: self.folder / name for name in changed})
        self._uploaded |= {name: states[name] for name in changed}

    def _download(self, folder: str) -> None:
        listed = self._listed(folder)
        self._forget(folder, set(listed))
        names = [n for n in listed if n.endswith(_READ_SUFFIXES)]
        # The spectrum first: another process may add an epoch at this moment, and the
        # metrics may contain more epochs than the spectrum.
        names.sort(key=lambda name: not name.endswith(layout.SPECTRUM_FILE))
        for part in (names[:1], names[1:]):
            self.bucket.download(part, self.folder)
        self._uploaded |= self._states(names)

    def _forget(self, folder: str, listed: set[str]) -> None:
        """Removes local files that another process has deleted in the bucket."""
        start = f"{folder}/" if folder else ""
        for name in {n for n in self._uploaded if n.startswith(start)} - listed:
            (self.folder / name).unlink(missing_ok=True)
            del self._uploaded[name]

    def _listed(self, folder: str = "") -> list[str]:
        """Returns the names of the objects, without checkpoints and logs."""
        names, folders = self.bucket.list(folder)
        for inner in folders:
            if inner.rpartition("/")[2] not in _NOT_LISTED:
                names += self._listed(inner)
        return names

    def _files(self) -> Iterator[Path]:
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [f for f in folders if f != layout.CHECKPOINTS_FOLDER]
            for name in names:
                # Names with a dot are temporary files or locks.
                if not name.startswith(".") and name != layout.LOCK_FILE:
                    yield Path(folder) / name

    def _states(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Returns time and size of the files that exist."""
        states = {}
        for name in names:
            with suppress(FileNotFoundError):
                status = (self.folder / name).stat()
                states[name] = status.st_mtime_ns, status.st_size
        return states

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0


@contextmanager
def local_folder(
    workdir: str | os.PathLike,
    *,
    trains: bool = False,
    on_loss: Callable[[], object] = lambda: None,
) -> Iterator[Path]:
    """Gives access to the folder of a run, which may be in a bucket.

    A local path is returned unchanged. For a URL, the small files of the run are
    downloaded to a temporary folder. When the context ends, files that have changed are
    uploaded and the temporary folder is deleted. Messages show the URL.

    Args:
      workdir: path or URL of the run's folder.
      trains: whether this process writes the run: it holds the run's lease while the
        context is open. If several processes train together, only the first does.
      on_loss: called, in another thread, if another process takes over the lease.

    Raises:
      UsageError: if the bucket cannot be read or, to train, written; if another process
        trains the run; or if the files cannot be uploaded at the end, in which case
        the temporary folder is kept.
    """
    if not is_url(workdir):
        yield Path(workdir)
        return
    bucket = Bucket(workdir)
    with ExitStack() as held:
        try:
            lease = held.enter_context(hold_lease(bucket)) if trains else None
            parent = held.enter_context(_temporary_folder())
            folder = parent / bucket.url.rpartition("/")[2]
            folder.mkdir()
            mirror = Mirror(bucket, folder, lease)
        except OSError as error:
            raise UsageError(
                f"--workdir={bucket.url} cannot be {'written' if trains else 'read'} "
                f"({first_line(error)}); check the name and the access rights of the "
                "bucket"
            ) from error
        if lease is not None:
            lease.on_loss(on_loss)
        held.callback(mirror.close)
        _open[folder] = mirror
        held.callback(_open.pop, folder)
        held.enter_context(show_as(str(folder), bucket.url))
        try:
            yield folder
        except UsageError as error:
            _upload_last(mirror, parent, raises=False)
            raise UsageError(with_shown_names(str(error))) from error
        _upload_last(mirror, parent, raises=True)


def _upload_last(mirror: Mirror, parent: Path, *, raises: bool) -> None:
    """Uploads the changed files; keeps the temporary folder if this fails."""
    try:
        mirror.upload()
    except UsageError:  # taken over by another process
        if raises:
            raise
    except OSError as error:
        if not raises:
            return
        (parent / _OWNED).unlink()
        raise UsageError(
            f"files of the run could not be uploaded to {mirror.bucket.url} "
            f"({first_line(error)}); they are kept in {parent}"
        ) from error


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Creates a folder that is deleted at the end, or by the next process if killed.

    A file in it is locked while its process lives. Without this file, it is kept.
    """
    for other in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNED}"):
        with suppress(OSError), other.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    with (folder / "new").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (folder / "new").rename(folder / _OWNED)
        try:
            yield folder
        finally:
            if (folder / _OWNED).exists():
                shutil.rmtree(folder, ignore_errors=True)
