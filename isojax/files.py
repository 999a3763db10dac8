"""Files that are whole or not there."""

import contextlib
import fcntl
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# What numpy.load raises where an archive is damaged.
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
    """Writes a file under a passing name beside `path`, then puts it in its place."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        passing = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            passing.chmod(0o644)
            passing.replace(path)
        except OSError:
            passing.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Holds a lock file for a moment's work, and waits for it where it is taken.

    Where the file system does not support locking, nothing is locked.

    Args:
      path: of the lock file, created where missing.

    Raises:
      OSError: if the file cannot be created.
    """
    with open(path, "a") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
