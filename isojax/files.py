"""Atomic file writes, and lock files for short critical sections."""

import contextlib
import fcntl
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

# Exceptions that numpy.load raises for a damaged archive.
DAMAGED_ARCHIVE = (
    ValueError,
    OSError,
    EOFError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a temporary file beside `path`, then renames it.

    Other processes see the old content or the complete new content.

    Args:
      path: the file; an existing one is replaced.
      content: the new content.

    Raises:
      OSError: if the file cannot be written. The old content remains.
    """
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


class LockingUnsupportedError(OSError):
    """The file system of a lock file does not support locking."""


@contextlib.contextmanager
def hold_lock(
    path: Path, *, required: bool, on_wait: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Holds a lock file; waits while another process holds it.

    Args:
      path: the lock file, which is created if it is missing. For another user's file,
        read permission is enough.
      required: whether a file system without locks is an error. Otherwise nothing is
        locked there.
      on_wait: function to call before waiting for another process.

    Raises:
      LockingUnsupportedError: if the file system does not support locking, and
        `required`.
      OSError: if the file cannot be opened or created.
    """
    with open(path, opener=_open_lock) as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if required:
                raise LockingUnsupportedError(*error.args) from error
        yield


def _open_lock(path: str, flags: int) -> int:
    del flags
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not os.path.lexists(path):
            raise
        return os.open(path, os.O_RDONLY)
