"""Decoded splits on disk: written once, checked and mapped into memory after that.

A split's folder holds `images.bin` (uint8), `labels.bin` (int32, little-endian) and
`meta.json`, with the shape and a checksum of every byte of the three. The last is
written last, so that a folder without it is unfinished.
"""

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isojax.errors import UsageError
from isojax.files import write_atomically

VERSION = 1  # raise it when the same split would be decoded differently
_IMAGES, _LABELS, _META = "images.bin", "labels.bin", "meta.json"
_LABEL_TYPE = np.dtype("<i4")


class Images(NamedTuple):
    """A split as the cache holds it.

    Attributes:
      images: (n, h, w, c) uint8, read-only.
      labels: (n,) int32, -1 where there is none.
      label_names: name of each class.
      splits: names of all splits of the data set.
    """

    images: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    splits: tuple[str, ...]


class DamagedCacheError(Exception):
    """The content of a cache is not what was written."""


def read_images(folder: Path) -> Images | None:
    """The split in a folder, mapped into memory after its checksum was compared.

    Args:
      folder: of the split.

    Returns:
      The split; None where the folder is missing, unfinished, or of another version.

    Raises:
      DamagedCacheError: if a byte differs from what was written.
    """
    if not (folder / _META).exists():
        return None
    try:
        meta = json.loads((folder / _META).read_bytes())
        if meta["version"] != VERSION:
            return None
        images = np.asarray(np.memmap(folder / _IMAGES, np.uint8, mode="r"))
        labels = np.fromfile(folder / _LABELS, _LABEL_TYPE)
        if _checksum(meta, labels, zlib.crc32(images)) != meta["crc32"]:
            raise DamagedCacheError("the checksum differs")
        images = images.reshape(meta["shape"])
        return Images(images, labels, tuple(meta["label_names"]), tuple(meta["splits"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCacheError(str(error).splitlines()[0]) from error


def write_images(
    folder: Path,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    shape: tuple[int, int, int, int],
    label_names: Iterable[str],
    splits: Iterable[str],
) -> None:
    """Writes a split batch by batch; on any failure nothing of it is left.

    Args:
      folder: of the split; what it held before is removed.
      batches: images (b, h, w, c) uint8 and labels (b,) int32 of each batch.
      shape: (n, h, w, c) of all images together.
      label_names: name of each class.
      splits: names of all splits of the data set.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        labels, crc = [], 0
        with open(folder / _IMAGES, "wb") as file:
            # Not through a memory map, where a full disk kills the process.
            for images, batch_labels in batches:
                content = np.ascontiguousarray(images).reshape(-1)
                file.write(content)
                crc = zlib.crc32(content, crc)
                labels.append(batch_labels)
        labels = np.concatenate(labels).astype(_LABEL_TYPE)
        labels.tofile(folder / _LABELS)
        meta = {
            "version": VERSION,
            "shape": list(shape),
            "label_names": list(label_names),
            "splits": list(splits),
        }
        meta["crc32"] = _checksum(meta, labels, crc)
        write_atomically(folder / _META, json.dumps(meta, indent=1).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _checksum(meta: dict[str, Any], labels: np.ndarray, crc: int) -> int:
    """Goes on from the images' CRC-32 over the labels and the rest of the meta data."""
    rest = {name: value for name, value in meta.items() if name != "crc32"}
    return zlib.crc32(
        json.dumps(rest, sort_keys=True).encode(), zlib.crc32(labels, crc)
    )


@contextlib.contextmanager
def only_one_process(lock: Path) -> Iterator[None]:
    """Holds a lock file, for which it waits.

    Raises:
      UsageError: if the disk knows no locks.
    """
    with open(lock, opener=_open_lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for the run that prepares images here ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UsageError(
                f"{lock.parent} is on a disk without file locks ({error.strerror}); "
                "name a folder on another by --data_dir"
            ) from error
        yield


def _open_lock(path: str, flags: int) -> int:
    del flags
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's; a lock needs no right to write
        return os.open(path, os.O_RDONLY)
