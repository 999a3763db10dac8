"""One checkpoint on disk: arrays written by orbax, and their checksums.

Orbax restores a file with a flipped bit without an error. Therefore a record,
`checksums.json`, has a checksum of each file, of each array and of itself. It is
written last and deleted first: a folder without it is not a checkpoint.
"""

import errno
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from isojax import processes
from isojax.errors import UsageError, first_line
from isojax.files import write_atomically
from isojax.runs import layout
from isojax.training.leaves import Arrays, Leaf, checksum

UNFINISHED = ".unfinished"
_ARRAYS = "arrays"
_CHUNK = 1 << 22


class Damaged(Exception):
    """A checkpoint that differs from what was written."""


def write_step(folder: Path, arrays: Arrays) -> None:
    """Writes a checkpoint, its record last.

    Args:
      folder: folder of the checkpoint, which must not exist.
      arrays: arrays by name.

    Raises:
      Exception: any error of orbax and TensorStore, if the disk is full or fails.
    """
    folder.mkdir()
    reserve_space(folder / "space", sum(array.nbytes for array in arrays.values()))
    options = _options()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(folder / _ARRAYS, args=ocp.args.PyTreeSave(arrays))
    files = [path for path in (folder / _ARRAYS).rglob("*") if path.is_file()]
    record: dict[str, Any] = {
        "files": {str(path.relative_to(folder)): _file_crc32(path) for path in files},
        "leaves": {
            name: [list(array.shape), array.dtype.name, checksum(array)]
            for name, array in arrays.items()
        },
    }
    record["crc32"] = _record_crc32(record)
    folders = [path for path in (folder / _ARRAYS).rglob("*") if path.is_dir()]
    for path in (*files, *folders, folder / _ARRAYS):
        _flush(path)
    write_atomically(folder / layout.RECORD_FILE, json.dumps(record).encode())
    for path in (folder, folder.parent):
        _flush(path)


def delete_step(folder: Path, *, ignore_errors: bool = False) -> None:
    """Deletes a checkpoint, its record first.

    Args:
      folder: folder of the checkpoint.
      ignore_errors: whether files other than the record may remain.

    Raises:
      OSError: if a file cannot be deleted.
    """
    (folder / layout.RECORD_FILE).unlink(missing_ok=True)
    _flush(folder)
    shutil.rmtree(folder, ignore_errors=ignore_errors)


def read_step(folder: Path, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
    """Reads arrays of a checkpoint and verifies them.

    Args:
      folder: folder of the checkpoint.
      wanted: shape and type of the arrays to read, by name. Stored arrays of another
        width, such as float64, are cast.
      whole: whether the checkpoint must contain no other arrays.

    Returns:
      The arrays by name.

    Raises:
      Damaged: if a file cannot be read or differs from what was written.
      UsageError: if the checkpoint is undamaged, but of another model.
    """
    try:
        files, leaves = _read_record(folder / layout.RECORD_FILE)
        # Checked before orbax reads them: its behaviour on damaged files is undefined.
        for name, crc32 in files.items():
            if _file_crc32(folder / name) != crc32:
                raise Damaged(f"{name} differs from what was written")
    except OSError as error:
        name = Path(error.filename or folder).name
        raise Damaged(f"{name}: {error.strerror}") from error
    _check_fits(folder, leaves, wanted, whole=whole)
    try:
        arrays = _read_arrays(folder / _ARRAYS, {name: leaves[name] for name in wanted})
    except Exception as error:  # such as a disk failure
        raise Damaged(first_line(error)) from error
    for name, array in arrays.items():
        if (array.shape, array.dtype.name, checksum(array)) != leaves[name]:
            raise Damaged(f"{name} differs from what was written")
    return {
        name: array.astype(wanted[name].dtype, copy=False)
        for name, array in arrays.items()
    }


def _flush(path: Path) -> None:
    """Flushes a file or folder to disk, in case power fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve_space(path: Path, size: int) -> None:
    """Raises an error if the disk has no room for `size` bytes.

    Orbax would fail as well, but with pages of messages from its threads.

    Args:
      path: a file that is created and removed again.
      size: space to reserve, in bytes.

    Raises:
      OSError: if the space cannot be reserved or, on systems without
        `posix_fallocate` such as macOS, is not free.
    """
    reserve = getattr(os, "posix_fallocate", None)
    with path.open("wb") as file:
        if reserve is not None:
            reserve(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    path.unlink()


def _read_record(path: Path) -> tuple[dict[str, int], dict[str, Leaf]]:
    try:
        record = json.loads(path.read_bytes())
        crc32 = record.pop("crc32")
        whole = _record_crc32(record) == crc32
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise Damaged(f"{path.name} differs from what was written")
    leaves = {
        name: Leaf(tuple(shape), dtype, crc32)
        for name, (shape, dtype, crc32) in record["leaves"].items()
    }
    return record["files"], leaves


def _check_fits(
    folder: Path, leaves: dict[str, Leaf], wanted: dict[str, Leaf], *, whole: bool
) -> None:
    extra = [name for name in leaves if whole and name not in wanted]
    for name in [*wanted, *extra]:
        stored, expected = leaves.get(name), wanted.get(name)
        if not _can_be_cast(stored, expected):
            raise UsageError(
                f"the checkpoint in {folder} is of another model: {name} is "
                f"{_shape_and_type(stored)} in the checkpoint and "
                f"{_shape_and_type(expected)} in this config; use the run's own config "
                "or choose another folder"
            )


def _can_be_cast(stored: Leaf | None, expected: Leaf | None) -> bool:
    """Returns whether shapes and kinds of type (float, integer, ...) are equal."""
    if stored is None or expected is None:
        return False
    kinds = {np.dtype(leaf.dtype).kind for leaf in (stored, expected)}
    return stored.shape == expected.shape and len(kinds) == 1


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
        folder,
        args=ocp.args.PyTreeRestore(like, restore_args=as_numpy, partial_restore=True),
    )


def _options() -> ocp.options.MultiprocessingOptions:
    """Makes every process read and write alone, without waiting for others."""
    here, _ = processes.process_part()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"p{here}"
    )


def _file_crc32(path: Path) -> int:
    crc32 = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc32 = zlib.crc32(chunk, crc32)
    return crc32


def _record_crc32(record: dict[str, dict]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
