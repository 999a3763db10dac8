"""Free space, permissions and locks of the folder that holds the data sets."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from isojax.errors import UsageError, first_line
from isojax.files import LockingUnsupportedError, hold_lock
from isojax.output import print_line


def fingerprint(
    description: object, files: Iterable[tuple[str | Path, tuple]], *, remedy: str
) -> str:
    """Returns a checksum that changes if one of the files is replaced.

    Args:
      description: value that the checksum depends on, with a unique `repr`.
      files: path of each file, and values that describe it. The checksum depends on
        the values, and on size and modification time of the file, not on its path.
      remedy: what to do if a file cannot be read, for the error message.

    Returns:
      16 hexadecimal digits.

    Raises:
      UsageError: if a file cannot be read.
    """
    digest = hashlib.sha256(repr(description).encode())
    try:
        for path, values in files:
            status = os.stat(path)
            entry = (*values, status.st_size, status.st_mtime_ns)
            digest.update(repr(entry).encode())
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read ({first_line(error)}); {remedy}"
        ) from error
    return digest.hexdigest()[:16]


def require_space(
    folder: Path,
    needed: int,
    *,
    purpose: str,
    remedy: str = "choose a folder on another disk with --data_dir",
) -> None:
    """Checks that the disk has enough free space.

    Args:
      folder: an existing folder on the disk.
      needed: required space, in bytes.
      purpose: what the space is needed for, for the error message.
      remedy: what to do apart from freeing space, for the error message.

    Raises:
      UsageError: if less space is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{purpose} takes about {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB "
            f"are free in {folder}. Free some space, or {remedy}"
        )


def make_folder(folder: Path, *, root: Path) -> None:
    """Creates a folder below `root`; new folders get the permissions of their parent.

    Users with write permission for `root`, such as a group that shares it, can then
    replace the files of another user.

    Args:
      folder: the folder to create, which may exist.
      root: a folder that contains it; created with default permissions if missing.

    Raises:
      UsageError: if a folder cannot be created.
    """
    new = root
    try:
        root.mkdir(parents=True, exist_ok=True)
        for new in reversed([folder, *folder.parents]):
            if new.is_relative_to(root) and not new.is_dir():
                new.mkdir(exist_ok=True)
                with contextlib.suppress(OSError):  # file systems without permissions
                    new.chmod(stat.S_IMODE(new.parent.stat().st_mode))
    except OSError as error:
        raise _unwritable(new, error) from error


def require_writable(folder: Path) -> None:
    """Checks that files can be created in an existing folder.

    Raises:
      UsageError: if they cannot. The message gives the reason.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def owner_of(path: Path) -> str:
    """Returns the name of the owner of a file or folder, for error messages."""
    try:
        return path.owner()
    except KeyError:  # a user unknown to this machine
        return f"user {path.stat().st_uid}"
    except OSError:
        return "its owner"


def _unwritable(folder: Path, error: OSError) -> UsageError:
    remedy = "choose another folder with --data_dir"
    if isinstance(error, PermissionError):
        folders = (folder, *folder.parents)
        existing = next(path for path in folders if os.path.lexists(path))
        remedy = f"ask {owner_of(existing)} for permission to write there, or {remedy}"
    return UsageError(f"{folder} cannot be written ({error.strerror}): {remedy}")


@contextlib.contextmanager
def preparation_lock(path: Path) -> Iterator[None]:
    """Holds a lock while images are prepared; waits for another run that prepares them.

    Args:
      path: the lock file, in the folder that the images are written to.

    Raises:
      UsageError: if the file system does not support locking.
    """

    def announce() -> None:
        print_line(f"Waiting for another run that prepares images in {path.parent} ...")

    try:
        with hold_lock(path, required=True, on_wait=announce):
            yield
    except LockingUnsupportedError as error:
        raise UsageError(
            f"{path.parent} is on a file system without locks ({error.strerror}). "
            "Choose a folder on another one with --data_dir"
        ) from error


@contextlib.contextmanager
def naming_full_disk(folder: Path, *, purpose: str) -> Iterator[None]:
    """Converts errors caused by a full disk to a `UsageError`."""
    try:
        yield
    except Exception as error:
        if not any(_is_full(cause) for cause in _chain(error)):
            raise
        raise UsageError(
            f"{purpose} stopped because the disk of {folder} is full. Free some space, "
            "or choose a folder on another disk with --data_dir"
        ) from error


def _is_full(error: BaseException) -> bool:
    # TensorFlow's error has no errno, but contains the system's message.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(
        errno.ENOSPC
    ) in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
