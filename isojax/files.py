"""Atomic file writes, and lock files for short critical sections."""

import contextlib
import fcntl
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
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


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Holds a lock file; waits while another process holds it.

    If the file system does not support locking, nothing is locked.

    Args:
      path: the lock file, which is created if it is missing.

    Raises:
      OSError: if the file cannot be created.
    """
    with open(path, "a") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
