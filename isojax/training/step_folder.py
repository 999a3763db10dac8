"""One checkpoint on disk: the arrays of a step, written by orbax, and their checksums.

Orbax restores a file with a flipped bit without a word, so every array has a checksum,
in a record that has one of its own. Both become visible at once, when orbax renames the
finished folder.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from isojax import parallel
from isojax.errors import UsageError
from isojax.training.leaves import Arrays, Leaf, checksum

_ARRAYS, _CHECKSUMS = "state", "checksums"
_CHECKSUMS_FILE = "metadata"  # orbax's name of a JSON item


class Damaged(Exception):
    """A checkpoint that is not what was written."""


def write_step(folder: Path, arrays: Arrays) -> None:
    """Writes a checkpoint, which is there as a whole or not at all.

    Args:
      folder: of the step, not there yet.
      arrays: by name.

    Raises:
      Exception: whatever orbax and TensorStore raise where the disk is full or fails.
    """
    leaves = {
        name: [list(array.shape), array.dtype.name, checksum(array)]
        for name, array in arrays.items()
    }
    options = _options()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options),
        **{
            _ARRAYS: ocp.PyTreeCheckpointHandler(multiprocessing_options=options),
            _CHECKSUMS: ocp.JsonCheckpointHandler(multiprocessing_options=options),
        },
    )
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(
            folder,
            args=ocp.args.Composite(
                **{
                    _ARRAYS: ocp.args.PyTreeSave(arrays),
                    _CHECKSUMS: ocp.args.JsonSave(
                        {"leaves": leaves, "crc32": _record_checksum(leaves)}
                    ),
                }
            ),
        )


def read_step(folder: Path, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
    """Reads arrays of a checkpoint and verifies them.

    Args:
      folder: of the step.
      wanted: shape and type of the arrays to read, by name.
      whole: whether these must be all that the checkpoint has.

    Returns:
      The arrays, by name.

    Raises:
      Damaged: if anything cannot be read or is not what was written.
      UsageError: if the checkpoint is good, but of another model.
    """
    leaves = _read_record(folder)
    _check_fits(folder, leaves, wanted, whole=whole)
    try:
        arrays = _read_arrays(folder, wanted)
    except Exception as error:  # a damaged file may fail anywhere inside orbax
        raise Damaged(first_line(error)) from error
    for name, array in arrays.items():
        there = Leaf(array.shape, array.dtype.name, checksum(array))
        if there != leaves[name]:
            raise Damaged(f"{name} does not match its checksum")
    return arrays


def _read_record(folder: Path) -> dict[str, Leaf]:
    """The record of a checkpoint's leaves, proved whole."""
    try:
        record = json.loads((folder / _CHECKSUMS / _CHECKSUMS_FILE).read_bytes())
        if _record_checksum(record["leaves"]) != record["crc32"]:
            raise Damaged("the checksums do not match their own")
        return {
            name: Leaf(tuple(shape), dtype, crc32)
            for name, (shape, dtype, crc32) in record["leaves"].items()
        }
    except OSError as error:
        raise Damaged(f"its checksums: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("its checksums cannot be parsed") from error


def _check_fits(
    folder: Path, leaves: dict[str, Leaf], wanted: dict[str, Leaf], *, whole: bool
) -> None:
    extra = [name for name in leaves if whole and name not in wanted]
    for name in [*wanted, *extra]:
        there, here = (_shape_and_type(known.get(name)) for known in (leaves, wanted))
        if there != here:
            raise UsageError(
                f"the checkpoint in {folder} is of another model: {name} is {there} "
                f"there and {here} here; use that run's config, or name another folder"
            )


def _shape_and_type(leaf: Leaf | None) -> str:
    return "missing" if leaf is None else f"{leaf.shape} {leaf.dtype}"


def _read_arrays(folder: Path, wanted: dict[str, Leaf]) -> Arrays:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_options())
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in wanted}
    like: dict[str, Any] = {
        name: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
        for name, leaf in wanted.items()
    }
    return handler.restore(
        folder / _ARRAYS,
        args=ocp.args.PyTreeRestore(like, restore_args=as_numpy, partial_restore=True),
    )


def _options() -> ocp.options.MultiprocessingOptions:
    """Every process reads and writes for itself: none waits for another's disk."""
    here = parallel.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"p{here}"
    )


def _record_checksum(leaves: dict[str, list]) -> int:
    return checksum(np.frombuffer(json.dumps(leaves, sort_keys=True).encode(), "u1"))


def first_line(error: Exception) -> str:
    """An error's message in a line, short enough to show inside another."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
