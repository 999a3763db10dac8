"""A lease: the lock of a run in a bucket, which one process at a time can hold."""

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.runs.bucket import Bucket
from isojax.runs.lock import InUseError, this_process

RENEWED_SECONDS, STALE_SECONDS = 20, 90


class Lease:
    """The right to write a run, held by the object with the highest number.

    The objects are `run.lock/000001`, `run.lock/000002`, and so on. A process takes the
    lease by creating the next number, which succeeds for one process only. The owner
    overwrites its object every `RENEWED_SECONDS`. Another process takes over if the
    object is older than `STALE_SECONDS` by the server's clock, or if its owner was a
    process of this machine that has ended. An owner that finds a higher number has lost
    the lease.
    """

    def __init__(self, bucket: Bucket, name: str, content: dict[str, Any]):
        """Starts to renew a lease that this process has taken; see `take`."""
        self._bucket, self._name = bucket, name
        self._content = json.dumps(content).encode()
        self._is_lost = False
        self._on_loss: Callable[[], object] = lambda: None
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    @classmethod
    def take(cls, bucket: Bucket) -> Self:
        """Takes the lease of a run.

        Args:
          bucket: the run.

        Raises:
          InUseError: if another live process holds the lease.
          BucketError: if the bucket does not exist or cannot be written.
        """
        content = this_process()
        content |= {"machine": _machine(), "token": uuid.uuid4().hex}
        while True:
            names = _names(bucket)
            if names and not _is_abandoned(bucket, names[-1]):
                raise InUseError(bucket.url, _read_owner(bucket, names[-1]))
            number = int(names[-1].rpartition("/")[2]) + 1 if names else 1
            name = f"{layout.LOCK_FILE}/{number:06}"
            bucket.create(name, json.dumps(content).encode())
            # Read, in case the answer was lost and the request repeated.
            if _read_owner(bucket, name).get("token") == content["token"]:
                bucket.delete(names)
                return cls(bucket, name, content)

    def on_loss(self, action: Callable[[], object]) -> None:
        """Sets what is called, in another thread, if the lease is lost."""
        self._on_loss = action
        if self._is_lost:
            action()

    def check(self) -> None:
        """Raises an error if another process has taken over the lease.

        Raises:
          UsageError: if it has.
          BucketError: if the bucket cannot be read.
        """
        self._is_lost = self._is_lost or self._find_higher()
        if self._is_lost:
            raise UsageError(
                f"--workdir={self._bucket.url} was taken over by another process while "
                "this one could not renew its lock; this run was stopped, and the "
                "other one continues from the last checkpoint"
            )

    def release(self) -> None:
        """Ends the lease. If the bucket does not answer, it becomes stale."""
        self._ended.set()
        self._renewing.join()
        with suppress(OSError):
            self._bucket.delete([self._name])

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_SECONDS):
            with suppress(OSError):  # renewed later; otherwise it becomes stale
                if self._find_higher():
                    self._is_lost = True
                    self._on_loss()
                    return
                self._bucket.write(self._name, self._content)

    def _find_higher(self) -> bool:
        return any(name > self._name for name in _names(self._bucket))


@contextmanager
def hold_lease(bucket: Bucket) -> Iterator[Lease]:
    """Holds the lease of a run until the context ends; see `Lease.take`."""
    lease = Lease.take(bucket)
    try:
        yield lease
    finally:
        lease.release()


def _names(bucket: Bucket) -> list[str]:
    """Returns the names of the numbered objects, ascending."""
    names, _ = bucket.list(layout.LOCK_FILE)
    return sorted(name for name in names if name.rpartition("/")[2].isdecimal())


def _is_abandoned(bucket: Bucket, name: str) -> bool:
    owner = _read_owner(bucket, name)
    if owner and _has_ended(owner):
        return True
    probe = f"{layout.LOCK_FILE}/probe-{uuid.uuid4().hex}"
    bucket.write(probe, b"")
    try:
        age = bucket.modified(probe) - bucket.modified(name)
    except FileNotFoundError:  # released just now
        return True
    finally:
        bucket.delete([probe])
    return age.total_seconds() > STALE_SECONDS


def _has_ended(owner: dict[str, Any]) -> bool:
    """Returns whether an owner was a process of this machine that has ended."""
    here = _machine()
    if here is None or owner.get("machine") != here:
        return False
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError, TypeError):
        pass
    return False


def _read_owner(bucket: Bucket, name: str) -> dict[str, Any]:
    try:
        owner = json.loads(bucket.read(name))
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _machine() -> str | None:
    """Identifies the system in which process numbers are unique; None if unknown.

    Containers on one machine share its boot, but number their processes separately.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return None
