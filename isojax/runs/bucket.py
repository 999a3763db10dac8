"""Objects in a cloud bucket, through fsspec."""

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from isojax.errors import UsageError, first_line
from isojax.files import write_atomically

_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+]+):/{1,2}(?P<path>.+)")
# A request that hangs fails after this time; the libraries then repeat it.
_SECONDS = 30
# Python package for each protocol; `memory` is for tests.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "memory": "fsspec"}


class BucketError(OSError):
    """A request that failed, with the first line of the library's message."""

    def __init__(self, error: Exception):
        """Describes an error of a storage library."""
        super().__init__(errno.EIO, first_line(error))


def is_url(path: str | os.PathLike) -> bool:
    """Returns whether a path is a URL such as gs://bucket/run."""
    return _URL.fullmatch(os.fspath(path)) is not None


def write_output(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file to a local path, atomically, or to a URL.

    Raises:
      UsageError: if the protocol of the URL is not supported.
      OSError: if the file cannot be written.
    """
    if is_url(path):
        Bucket(path).write("", content)
    else:
        write_atomically(Path(path), content)


class Bucket:
    """The objects whose names begin with a URL.

    Names are relative to the URL, with slashes. Errors are raised as `BucketError`; a
    missing object is a `FileNotFoundError`.

    Attributes:
      url: the URL, without a slash at its end.
    """

    def __init__(self, url: str | os.PathLike):
        """Connects to a bucket; no object is read yet.

        Args:
          url: the URL, which may begin with `gs:/` as `pathlib` writes it.

        Raises:
          UsageError: if the protocol is not supported or its package not installed.
        """
        match = _URL.fullmatch(os.fspath(url))
        assert match is not None  # callers ask is_url
        protocol, path = match["protocol"], match["path"].rstrip("/")
        self.url = f"{protocol}://{path}"
        if protocol not in _PACKAGES:
            raise UsageError(
                f"{self.url} is not supported; choose a directory, or a bucket of "
                "gs:// or s3://"
            )
        try:
            with _errors():
                self._files = _open_file_system(protocol)
        except ImportError as error:
            raise UsageError(
                f"{self.url} needs the package {_PACKAGES[protocol]}; install it with "
                "pip install isojax[bucket]"
            ) from error
        self._root = self._files._strip_protocol(self.url)

    def find(self, folder: str = "") -> dict[str, int]:
        """Returns the sizes in bytes of all objects in a folder, by name."""
        root = self._path(folder)
        with _errors():
            found: dict[str, Any] = self._files.find(root, detail=True)
        skipped = len(self._root) + 1
        return {path[skipped:]: int(info["size"]) for path, info in found.items()}

    def list(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Returns the names of the objects and of the folders directly in a folder."""
        try:
            with _errors():
                found = self._files.ls(self._path(folder), detail=True, refresh=True)
        except FileNotFoundError:
            return [], []
        objects, folders, skipped = [], [], len(self._root) + 1
        for info in found:
            name = info["name"].rstrip("/")[skipped:]
            if info["type"] == "directory":
                folders.append(name)
            elif name and name != folder:
                objects.append(name)
        return objects, folders

    def read(self, name: str) -> bytes:
        """Returns the content of an object."""
        with _errors():
            return self._files.cat_file(self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Writes an object; an existing one is replaced."""
        with _errors():
            self._files.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> None:
        """Writes an object unless it exists."""
        with suppress(FileExistsError), _errors():
            self._files.pipe_file(self._path(name), content, mode="create")

    def modified(self, name: str) -> datetime:
        """Returns when an object was last written, by the server's clock."""
        with _errors():
            return self._files.modified(self._path(name))

    def upload(self, files: Mapping[str, Path]) -> None:
        """Writes local files as objects.

        Args:
          files: the files, by name of the object.
        """
        names = [self._path(name) for name in files]
        with _errors():
            self._files.put([str(path) for path in files.values()], names)

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Writes objects as local files.

        Args:
          names: names of the objects.
          folder: local folder, in which the files get the names of the objects.
        """
        names = list(names)
        targets = [folder / name for name in names]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        if names:
            with _errors():
                self._files.get(
                    [self._path(name) for name in names], [str(t) for t in targets]
                )

    def copy(self, names: Mapping[str, str]) -> None:
        """Copies objects; `names` maps the old names to the new ones."""
        for old, new in names.items():
            with _errors():
                self._files.cp_file(self._path(old), self._path(new))

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; missing ones are ignored."""
        paths = [self._path(name) for name in names]
        if not paths:
            return
        try:
            with _errors():
                self._files.rm(paths)
        except FileNotFoundError:  # the others may not have been deleted
            for path in paths:
                with suppress(FileNotFoundError), _errors():
                    self._files.rm([path])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextmanager
def _errors() -> Iterator[None]:
    """Raises the many types of errors of the storage libraries as `BucketError`."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, ImportError, UsageError):
        raise
    except Exception as error:
        raise BucketError(error) from error


def _open_file_system(protocol: str) -> Any:
    if protocol == "gs":
        # It would look up the type of each bucket, with another library.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # prints tracebacks
        from aiohttp import ClientTimeout
        from gcsfs.core import GCSFileSystem

        timeout = ClientTimeout(total=None, sock_connect=_SECONDS, sock_read=_SECONDS)
        return GCSFileSystem(
            use_listings_cache=False, session_kwargs={"timeout": timeout}
        )
    if protocol == "s3":
        from s3fs import S3FileSystem

        timeouts = {"connect_timeout": _SECONDS, "read_timeout": _SECONDS}
        return S3FileSystem(use_listings_cache=False, config_kwargs=timeouts)
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem()
