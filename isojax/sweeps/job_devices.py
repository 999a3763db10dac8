"""Divides the GPUs and the processor cores of a machine among runs of a sweep."""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from isojax.cpu_cores import own_cores
from isojax.errors import UsageError
from isojax.launchers import (
    LOCAL_DEVICES,
    VISIBLE_DEVICES,
    divide_gpus,
    launcher_task,
    local_gpus,
    visible_gpus,
)

_DEVICES = Path("/dev")
# The number of threads of XLA on the CPU. It is the same for every number of jobs,
# because XLA adds numbers in another order for another number of threads.
_THREADS = "NPROC"


class JobDevices(NamedTuple):
    """The devices of one run at a time.

    Attributes:
      environment: the environment variables that select the GPUs and the threads.
      cores: the numbers of the processor cores; None for all.
    """

    environment: dict[str, str]
    cores: frozenset[int] | None = None


def divide_devices(
    jobs: int, environment: Mapping[str, str] = os.environ
) -> list[JobDevices]:
    """Divides the devices that this process can use among jobs.

    Tasks of Slurm or Open MPI on one machine that see the same GPUs divide them first.
    If there are fewer processor cores than jobs, and on systems without processor
    affinity, such as macOS, all jobs share all cores.

    Args:
      jobs: the number of runs at a time.
      environment: the environment variables.

    Returns:
      The devices of each job.

    Raises:
      UsageError: if there are no jobs, or they cannot divide the devices.
    """
    if jobs < 1:
        raise UsageError(f"--jobs={jobs}: set it above 0")
    if jobs > 1 and _has_tpu(environment):
        raise UsageError(
            f"--jobs={jobs}: runs cannot divide the chips of a TPU; set --jobs=1"
        )
    gpus = _divide_gpus(jobs, environment)
    cores = sorted(own_cores())
    if jobs == 1 or jobs > len(cores):
        return [JobDevices(variables) for variables in gpus]
    threads = {_THREADS: environment.get(_THREADS, str(len(cores)))}
    ends = [number * len(cores) // jobs for number in range(jobs + 1)]
    return [
        JobDevices(variables | threads, frozenset(cores[start:end]))
        for variables, start, end in zip(gpus, ends[:-1], ends[1:], strict=True)
    ]


@contextmanager
def use_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """Restricts this thread, and processes that it starts, to some processor cores."""
    if cores is None:
        yield
        return
    set_affinity = getattr(os, "sched_setaffinity", None)
    assert set_affinity is not None  # a system that numbers the cores
    before = own_cores()
    set_affinity(0, cores)
    try:
        yield
    finally:
        set_affinity(0, before)


def _divide_gpus(jobs: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    # That variable has no effect on a run that is a single process.
    others = {n: value for n, value in environment.items() if n != LOCAL_DEVICES}
    usable = local_gpus(launcher_task(others), others)
    if usable is None or (jobs == 1 and len(usable) == visible_gpus(others)):
        return [{}] * jobs
    try:
        shares = divide_gpus(len(usable), jobs)
    except UsageError as error:
        raise UsageError(f"--jobs={jobs}: {error}") from error
    listed = environment.get(VISIBLE_DEVICES)
    names = None if listed is None else listed.split(",")
    chosen = [[usable[index] for index in share] for share in shares]
    return [
        {VISIBLE_DEVICES: ",".join(names[i] if names else str(i) for i in share)}
        for share in chosen
    ]


def _has_tpu(environment: Mapping[str, str]) -> bool:
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms.split(","):
        return False
    chips = [*_DEVICES.glob("accel[0-9]*"), *_DEVICES.glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
