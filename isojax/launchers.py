"""What Slurm, Open MPI and CUDA tell a process about itself in the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from isojax.errors import UsageError

# Variables that JAX reads: the GPUs of a process, and the port of process 0.
LOCAL_DEVICES = "JAX_LOCAL_DEVICE_IDS"
COORDINATOR_PORT = "JAX_COORDINATOR_PORT"
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"  # which CUDA reads
_FIRST_PORT, _PORTS = 61440, 4096  # the range from which JAX takes its port
_SPREAD = 2531  # odd, so that jobs get different ports; their steps are far apart
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


class LauncherTask(NamedTuple):
    """The place of a process among those that a launcher started.

    Attributes:
      rank: index of the process, from 0.
      tasks: number of processes.
      local_rank: index among the processes on the same machine, from 0.
      local_tasks: number of processes on the same machine.
    """

    rank: int = 0
    tasks: int = 1
    local_rank: int = 0
    local_tasks: int = 1


def launcher_task(environment: Mapping[str, str] = os.environ) -> LauncherTask:
    """Returns the place of this process among the tasks of Slurm or Open MPI.

    Args:
      environment: the environment variables.

    Returns:
      The place; that of a single process without a launcher.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        return LauncherTask(
            rank=int(environment.get("SLURM_PROCID", "0")),
            tasks=tasks,
            local_rank=int(environment.get("SLURM_LOCALID", "0")),
            local_tasks=_slurm_local_tasks(environment),
        )
    tasks = int(environment.get("OMPI_COMM_WORLD_SIZE", "1"))
    if tasks > 1:
        return LauncherTask(
            rank=int(environment.get("OMPI_COMM_WORLD_RANK", "0")),
            tasks=tasks,
            local_rank=int(environment.get("OMPI_COMM_WORLD_LOCAL_RANK", "0")),
            local_tasks=int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")),
        )
    return LauncherTask()


def _slurm_local_tasks(environment: Mapping[str, str]) -> int:
    """Reads the tasks of this node from a list such as "2(x3),1": three nodes of 2."""
    counts: list[int] = []
    listed = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    for count, _, repeats in re.findall(r"(\d+)(\(x(\d+)\))?", listed):
        counts += [int(count)] * int(repeats or 1)
    return counts[int(environment.get("SLURM_NODEID", "0"))]


def visible_gpus(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the number of NVIDIA GPUs that a process can use.

    Args:
      environment: the environment variables.

    Returns:
      The number; 0 if JAX_PLATFORMS excludes GPUs.
    """
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return 0
    listed = environment.get(VISIBLE_DEVICES)
    if listed is None:
        return len(list(_NVIDIA_GPUS.glob("*")))
    devices = listed.split(",")
    # CUDA ignores everything from the first invalid entry on.
    valid = [name.strip() not in ("", "-1", "NoDevFiles") for name in devices]
    return valid.index(False) if False in valid else len(valid)


def local_gpus(
    task: LauncherTask, environment: Mapping[str, str] = os.environ
) -> list[int] | None:
    """Chooses the GPUs of a process that a launcher started.

    A process takes every GPU that it can see if it is alone on its machine, or if the
    launcher has bound it to some of them. Processes that see the same GPUs divide them.

    Args:
      task: the place of the process.
      environment: the environment variables.

    Returns:
      Indices among the visible GPUs; None without GPUs, or if JAX_LOCAL_DEVICE_IDS
      already selects some.

    Raises:
      UsageError: if several processes would share a GPU.
    """
    visible = visible_gpus(environment)
    if not visible or LOCAL_DEVICES in environment:
        return None
    if task.local_tasks == 1 or _is_bound(visible, environment):
        return list(range(visible))
    return divide_gpus(visible, task.local_tasks)[task.local_rank]


def _is_bound(visible: int, environment: Mapping[str, str]) -> bool:
    """Whether a launcher let a process see only a part of the GPUs of its machine."""
    allocated = environment.get("SLURM_GPUS_ON_NODE")
    if allocated is None:
        return visible == 1 and VISIBLE_DEVICES in environment
    return visible < int(allocated)


def divide_gpus(gpus: int, processes: int) -> list[list[int]]:
    """Divides the GPUs of a machine among its processes.

    Args:
      gpus: number of GPUs.
      processes: number of processes.

    Returns:
      For each process the indices of its GPUs.

    Raises:
      UsageError: if the processes cannot all have the same number of GPUs, at least 1.
    """
    share = gpus // processes
    if share * processes != gpus or not share:
        fitting = [n for n in range(1, gpus + 1) if gpus % n == 0]
        raise UsageError(
            f"{processes} processes cannot divide the {gpus} GPU(s) of this machine; "
            f"start {' or '.join(map(str, fitting))}, or select the GPUs with "
            "CUDA_VISIBLE_DEVICES"
        )
    return [list(range(n * share, (n + 1) * share)) for n in range(processes)]


def slurm_port(environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns a port for the processes of one job step of Slurm.

    JAX derives its port from the job alone, so that steps which run at the same time
    would connect to each other.

    Args:
      environment: the environment variables.

    Returns:
      The port, different for all steps of a job; None outside a step.
    """
    job, step = (environment.get(f"SLURM_{name}_ID") for name in ("JOB", "STEP"))
    if job is None or step is None:
        return None
    return str(_FIRST_PORT + (int(job) * _SPREAD + int(step)) % _PORTS)
