"""Counts the processor cores."""

import os


def cpu_cores() -> int:
    """Returns the number of processor cores that this process may use.

    On systems without this information, such as macOS, it is the number of cores of the
    machine.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
