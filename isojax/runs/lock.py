"""The lock of a run's folder, which one process at a time can hold."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isojax.errors import UsageError
from isojax.runs import layout

_held: set[int] = set()


class InUseError(UsageError):
    """Another live process holds the lock of a folder.

    Attributes:
      owner: the `process`, `host` and `since` of that process, as far as known.
    """

    def __init__(self, workdir: str | os.PathLike, owner: dict[str, Any]):
        """Describes the owner of a lock.

        Args:
          workdir: the folder or URL.
          owner: what the lock records about its owner; see `this_process`.
        """
        self.owner = owner
        super().__init__(
            f"--workdir={workdir} is in use by process {owner.get('process', '?')} on "
            f"{owner.get('host', '?')} since {owner.get('since', '?')}. Wait until it "
            "ends, stop it, or choose another directory"
        )


@contextmanager
def run_lock(workdir: Path) -> Iterator[None]:
    """Holds the lock of a run's folder until the context or the process ends.

    The kernel releases the lock when the process ends for any reason, including
    SIGKILL. The lock file records the last owner. It is never removed or replaced;
    otherwise two processes could lock two files of the same name.

    Args:
      workdir: the run's folder, which must exist.

    Raises:
      InUseError: if another live process holds the lock.
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
            raise InUseError(workdir, _read_owner(file)) from error
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(this_process()).encode(), 0)
        yield
    finally:
        _held.discard(file)
        os.close(file)


def _close_inherited() -> None:
    """Closes the lock files that a forked child process inherited.

    Otherwise the child would keep the lock after the owner has ended. Closing an
    inherited file does not release the owner's lock.
    """
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_inherited)


def this_process() -> dict[str, Any]:
    """Returns what a lock records about its owner: process, host and time."""
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _read_owner(file: int) -> dict:
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except ValueError:  # the owner is writing the file
        return {}
    return owner if isinstance(owner, dict) else {}
