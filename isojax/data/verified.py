"""Remembers which caches of images this machine has verified.

The records are in `isojax-verified-UID` of the folder for temporary files, which other
machines do not share. Deleting it makes the next start verify all images again.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from isojax.files import hold_lock, write_atomically
from isojax.output import print_line


def verify_once(folder: Path, state: str, verify: Callable[[], object]) -> None:
    """Verifies files, unless a process of this user on this machine has done it before.

    Other processes that start at the same time wait. If no record can be written, every
    process verifies the files.

    Args:
      folder: the folder of the files.
      state: changes whenever the files or the format of the cache change.
      verify: verifies the files; raises an error if they are damaged.
    """
    records = _records_folder()
    if records is None:
        verify()
        return
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    record = records / name
    if _read(record) == state:
        return

    def announce() -> None:
        print_line(f"Waiting for another process that verifies {folder} ...")

    with ExitStack() as held:
        with suppress(OSError):
            lock = hold_lock(records / f"{name}.lock", required=False, on_wait=announce)
            held.enter_context(lock)
        if _read(record) == state:
            return
        verify()
        with suppress(OSError):
            write_atomically(record, state.encode())


def _read(record: Path) -> str | None:
    try:
        return record.read_text()
    except OSError:
        return None


def _records_folder() -> Path | None:
    """Creates the folder of the records; None if it could belong to someone else."""
    folder = Path(tempfile.gettempdir()) / f"isojax-verified-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return folder if is_own and not status.st_mode & 0o022 else None
