"""The processor cores of this process."""

import os


def own_cores() -> frozenset[int]:
    """Returns the numbers of the processor cores that this process may use.

    Empty on systems without this information, such as macOS.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return frozenset(affinity(0) if affinity is not None else ())


def cpu_cores() -> int:
    """Returns the number of processor cores that this process may use.

    On systems without this information, it is the number of cores of the machine.
    """
    return len(own_cores()) or os.cpu_count() or 1
