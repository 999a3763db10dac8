"""Free space and permissions of the folder that holds the data sets."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isojax.errors import UsageError


def require_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Checks that the disk has room before work starts.

    Args:
      folder: an existing folder on the disk.
      needed: required space, in bytes.
      purpose: what the space is needed for, named in the error.

    Raises:
      UsageError: if less space is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{purpose} takes about {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB "
            f"are free in {folder}. Free some space, or choose a folder on another "
            "disk with --data_dir"
        )


def make_folder(folder: Path, *, root: Path) -> None:
    """Makes a folder below `root`, each new one with its parent's permissions.

    Whoever may write `root`, such as a group that shares it, may then replace what
    another user put there.

    Args:
      folder: the folder to make, which may exist.
      root: a folder that contains it; made with the default permissions if missing.

    Raises:
      UsageError: if a folder cannot be made.
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
    """Checks that files can be made in an existing folder.

    Raises:
      UsageError: if they cannot, with the reason.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def owner_of(path: Path) -> str:
    """Name of the user who owns a file or folder, as an error shows it."""
    try:
        return path.owner()
    except KeyError:  # a user whom this machine does not know
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
def naming_full_disk(folder: Path, *, purpose: str) -> Iterator[None]:
    """Raises a `UsageError` for a full disk, also if it is the cause of an error."""
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
