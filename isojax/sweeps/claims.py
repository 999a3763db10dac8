"""Locks with which several processes share the runs of one sweep."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from isojax.runs.lock import InUseError
from isojax.runs.mirror import lock_part
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.run_log import RECORDS_FOLDER

_POLL_SECONDS = 0.5
_MOST_SECONDS = 120  # longer than a process that has ended can hold a lease


@contextmanager
def claim_run(
    directory: Path, run: SweepRun, *, on_loss: Callable[[], object]
) -> Iterator[None]:
    """Reserves a run for this process, from its training to its evaluation.

    The run's own lock is free while the run is evaluated, so that a claim is a lock in
    `records/RUN`.

    Args:
      directory: the sweep's folder, or the folder of a mirror.
      run: the run.
      on_loss: called, in another thread, if another process takes over the claim, as
        it can in a bucket.

    Raises:
      InUseError: if another process has claimed the run, or trains it without a claim.
    """
    with lock_part(directory, f"{RECORDS_FOLDER}/{run.name}", on_loss=on_loss):
        # A run continues for seconds after its sweep was killed.
        if (directory / run.name).exists():
            with lock_part(directory, run.name):
                pass
        yield


@contextmanager
def lock_sweep(directory: Path) -> Iterator[None]:
    """Holds the lock of a sweep's folder; waits while another process holds it.

    Args:
      directory: the sweep's folder, or the folder of a mirror; created if it does not
        exist.

    Raises:
      InUseError: if another process holds it for two minutes.
    """
    deadline = time.monotonic() + _MOST_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(lock_part(directory))
                break
            except InUseError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
        yield
