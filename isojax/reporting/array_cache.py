"""Results that take seconds, kept in a run's folder while their inputs last."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from isojax.files import write_atomically
from isojax.runs.stored_run import Arrays, read_arrays


def remembered(path: Path, inputs: Arrays, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays that `compute` gives, from a file where it holds the same inputs.

    Args:
      path: of the file, written where it is missing or of other inputs.
      inputs: all that the result depends on.
      compute: gives arrays under other names than those of `inputs`.
    """
    kept = read_arrays(path)
    if kept and all(_same(kept.get(name), value) for name, value in inputs.items()):
        return kept
    arrays = compute()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **inputs, **arrays)  # type: ignore[arg-type]  # numpy's stub
    with suppress(OSError):  # a full disk, or another's folder: computed again
        write_atomically(path, buffer.getvalue())
    return arrays


def _same(kept: np.ndarray | None, value: np.ndarray) -> bool:
    return kept is not None and np.array_equal(kept, value)
