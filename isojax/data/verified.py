"""Remembers on each machine what it has computed from all bytes of large files.

The records are in `isojax-verified-UID` of the folder for temporary files, which other
machines do not share. Deleting it makes the next start read all images again.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from isojax.data.disk import fingerprint
from isojax.files import hold_lock, write_atomically
from isojax.output import print_line


def remembered(path: Path, state: str, compute: Callable[[], str]) -> str:
    """Returns a value that was computed before, by this user on this machine.

    If there is none, it is computed, while other processes that need it wait. If no
    record can be written, every process computes it.

    Args:
      path: the file or folder that the value belongs to.
      state: changes whenever the value could change; see `state_of`.
      compute: computes the value, a text without line breaks. If it raises an error,
        nothing is recorded.
    """
    records = _records_folder()
    if records is None:
        return compute()
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    record = records / name
    if (found := _read(record, state)) is not None:
        return found

    def announce() -> None:
        print_line(f"Waiting for another process that reads {path} ...")

    with ExitStack() as held:
        with suppress(OSError):
            lock = hold_lock(records / f"{name}.lock", required=False, on_wait=announce)
            held.enter_context(lock)
        if (found := _read(record, state)) is not None:
            return found
        value = compute()
        with suppress(OSError):
            write_atomically(record, f"{state}\n{value}".encode())
    return value


def state_of(paths: Iterable[Path], description: object) -> str:
    """Returns a text that changes if one of some files or the description changes.

    Args:
      paths: the files. The text depends on their sizes, times and inodes.
      description: value with a unique `repr`.

    Raises:
      OSError: if a file cannot be read.
    """
    files = [(path, (path.stat().st_ino, path.stat().st_ctime_ns)) for path in paths]
    return fingerprint(description, files, remedy="run the same command again")


def _read(record: Path, state: str) -> str | None:
    try:
        stored, _, value = record.read_text().partition("\n")
    except OSError:
        return None
    return value if stored == state else None


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
