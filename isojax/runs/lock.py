"""A lock file that gives one process at a time a run's directory."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isojax.errors import UsageError
from isojax.runs import layout

_held: set[int] = set()


@contextmanager
def run_lock(workdir: Path) -> Iterator[None]:
    """Holds the lock of a run's directory until the context or the process ends.

    The kernel releases the lock when the process ends for any reason, SIGKILL included.
    The file stays in place and names the last owner; it is never replaced, so two
    processes cannot hold locks on two files of the same name.

    Args:
      workdir: the run's directory, which must exist.

    Raises:
      UsageError: if another live process holds the lock.
      OSError: if the lock file cannot be written, or the file system does not support
        locking.
    """
    path = workdir / layout.LOCK_FILE
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(file)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(workdir, _read_owner(file)) from error
        owner = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner).encode(), 0)
        yield
    finally:
        _held.discard(file)
        os.close(file)


def _close_inherited() -> None:
    """Closes a forked child's copies of the lock files.

    A copy keeps the lock after its owner has ended. Closing it does not release the
    lock of the owner.
    """
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_inherited)


def _in_use(workdir: Path, owner: dict) -> UsageError:
    return UsageError(
        f"--workdir={workdir} is in use by process {owner.get('process', '?')} on "
        f"{owner.get('host', '?')} since {owner.get('since', '?')}; wait until it "
        "ends, stop it, or choose another directory"
    )


def _read_owner(file: int) -> dict:
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except ValueError:  # the owner is writing it at this moment
        return {}
    return owner if isinstance(owner, dict) else {}
