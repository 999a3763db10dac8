"""Caches arrays that take seconds to compute, with their inputs, in a run's folder."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from isojax.files import write_atomically
from isojax.runs.stored_run import Arrays, read_arrays


def cached(path: Path, inputs: Arrays, compute: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays of a file if it has the same inputs, or computes them.

    Args:
      path: the file, which is written if it is missing or has other inputs.
      inputs: all arrays that the result depends on.
      compute: returns the result, under names different from those of `inputs`.

    Returns:
      The result; if it is read from the file, together with the inputs.
    """
    stored = read_arrays(path)
    if stored and all(_equal(stored.get(name), inputs[name]) for name in inputs):
        return stored
    arrays = compute()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **inputs, **arrays)  # type: ignore[arg-type]  # numpy's stub
    with suppress(OSError):  # not writable: the next report computes it again
        write_atomically(path, buffer.getvalue())
    return arrays


def _equal(stored: np.ndarray | None, value: np.ndarray) -> bool:
    return stored is not None and np.array_equal(stored, value)
