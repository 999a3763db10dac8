"""One live run a folder: a lock file that names its owner."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isojax.errors import UsageError

LOCK_FILE = "run.lock"


@contextmanager
def run_lock(workdir: Path) -> Iterator[None]:
    """Holds a run's folder as long as the context, or the process, lives.

    The kernel frees the lock of a process that ends in whatever way; the file stays,
    and says who was last.

    Args:
      workdir: the run's folder, which exists.

    Raises:
      UsageError: if a live run has the folder.
      OSError: if the lock file cannot be written.
    """
    file = _acquire(workdir / LOCK_FILE)
    try:
        owner = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "processes": _process_space(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
        yield
    finally:
        os.close(file)


def _acquire(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _read_owner(file)
            os.close(file)
            if not _has_ended(owner):
                raise UsageError(
                    f"--workdir={path.parent} is in use by process "
                    f"{owner.get('process', '?')} on {owner.get('host', '?')} since "
                    f"{owner.get('since', '?')}; wait for it, end it, or name another "
                    "folder"
                ) from error
            # A child of the run that has ended still holds the old file.
            path.unlink(missing_ok=True)
            continue
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
        os.close(file)  # somebody else replaced the file before it was ours


def _read_owner(file: int) -> dict:
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except ValueError:  # being written at this moment
        return {}
    return owner if isinstance(owner, dict) else {}


def _has_ended(owner: dict) -> bool:
    """Whether the owner is known to live no more.

    Nothing is known of another host, or of a container that numbers its own processes.
    """
    here = (socket.gethostname(), _process_space())
    if (owner.get("host"), owner.get("processes")) != here or "process" not in owner:
        return False
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        pass
    return False


def _process_space() -> str:
    """Names what this process's number counts in; nothing where it is not known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
