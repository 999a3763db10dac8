"""What a run is trained on, kept in its folder."""

import json
import os
import platform
from pathlib import Path

import jax

import isojax
from isojax import parallel
from isojax.files import write_atomically
from isojax.reporting.gathering import MACHINE_FILE


def save_machine(workdir: Path) -> None:
    """Writes the devices and versions of this process to the run's folder.

    Where the disk is full the run goes on without.
    """
    machine = {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": parallel.device_count(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "isojax": isojax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    try:
        content = json.dumps(machine, indent=2) + "\n"
        write_atomically(workdir / MACHINE_FILE, content.encode())
    except OSError as error:
        print(f"{MACHINE_FILE} could not be saved ({error.strerror}).", flush=True)
