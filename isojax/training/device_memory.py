"""Whether a compiled step fits in the memory of its devices."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from isojax.errors import UsageError
from isojax.targets.peaks import peak_of

_SIZE = re.compile(r"\b(\d+(?:\.\d+)?)([KMGT])\b")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@contextmanager
def explained(precision: str) -> Iterator[None]:
    """Explains the compiler's error for a step that does not fit in the memory.

    Args:
      precision: `config.precision`, for the message.

    Raises:
      UsageError: if the compiler finds that the step does not fit in the memory of a
        device. The message says by how much, and what to change.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        sizes = memory_in_message(str(error))
        if sizes is None:
            raise
        raise UsageError(_does_not_fit(*sizes, precision)) from error


def memory_in_message(message: str) -> tuple[float, float] | None:
    """Returns the needed and the available bytes in an error of the compiler.

    Args:
      message: the error's message, such as "Ran out of memory in memory space hbm. Used
        20.5G of 15.75G hbm."

    Returns:
      The two sizes; None if the error has another reason.
    """
    sizes = [float(number) * _UNITS[unit] for number, unit in _SIZE.findall(message)]
    if "ran out of memory" not in message.lower() or len(sizes) < 2:
        return None
    return sizes[0], sizes[1]


def check_memory(needed: float, device: str, precision: str) -> None:
    """Checks that a compiled step fits in the memory of a device.

    Args:
      needed: the bytes that the step needs.
      device: the device's kind. A kind that is not in the table of peaks passes.
      precision: `config.precision`, for the message.

    Raises:
      UsageError: if it does not. The message says by how much, and what to change.
    """
    peak = peak_of(device)
    if peak is not None and needed > peak.memory:
        raise UsageError(_does_not_fit(needed, peak.memory, precision))


def _does_not_fit(needed: float, available: float, precision: str) -> str:
    remedies = ["choose a target with more devices"]
    if precision == "float32":
        remedies.append("set config.precision=bfloat16")
    return (
        f"the step needs {needed / 1e9:,.1f} GB of the {available / 1e9:,.1f} GB of a "
        f"device, {(needed - available) / 1e9:,.1f} GB too much; "
        f"{', '.join(remedies)}, set config.remat=True, increase config.microbatches "
        "or reduce config.batch_size"
    )
