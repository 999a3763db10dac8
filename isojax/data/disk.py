"""Room on the disk: asked for beforehand, and told in one line where it ends."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isojax.errors import UsageError


def require_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Refuses to begin what the disk cannot hold.

    Args:
      folder: an existing folder on the disk in question.
      needed: bytes.
      purpose: what they are for.

    Raises:
      UsageError: if fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{purpose} takes about {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB "
            f"are free in {folder}; make room, or name a folder on another disk with "
            "--data_dir"
        )


def require_writable(folder: Path) -> None:
    """Makes a folder where it is missing, and refuses one that cannot be written.

    Raises:
      UsageError: naming the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--data_dir: {folder} cannot be written ({error.strerror}); name another "
            "folder"
        ) from error


@contextlib.contextmanager
def naming_full_disk(folder: Path, *, purpose: str) -> Iterator[None]:
    """Turns a full disk, however deep it was met, into a `UsageError`."""
    try:
        yield
    except Exception as error:
        if not any(_is_full(cause) for cause in _chain(error)):
            raise
        raise UsageError(
            f"the disk of {folder} is full, so that {purpose} stopped; make room, or "
            "name a folder on another disk with --data_dir"
        ) from error


def _is_full(error: BaseException) -> bool:
    # TensorFlow's own error has no errno, but the system's words.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(
        errno.ENOSPC
    ) in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
