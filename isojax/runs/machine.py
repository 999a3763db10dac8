"""Records the machine of a run in `machine.json`."""

import json
import platform
from pathlib import Path

import jax

import isojax
from isojax.cpu_cores import cpu_cores
from isojax.files import write_atomically
from isojax.runs import layout


def save_machine(workdir: Path) -> None:
    """Writes the devices and package versions of this process to the run's folder.

    Args:
      workdir: the run's folder.

    Raises:
      OSError: if the file cannot be written.
    """
    machine = {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu_cores": cpu_cores(),
        "isojax": isojax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    content = json.dumps(machine, indent=2) + "\n"
    write_atomically(workdir / layout.MACHINE_FILE, content.encode())
