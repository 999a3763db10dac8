"""Files that are whole or not there."""

import os
import tempfile
import tokenize
import zipfile
import zlib
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
