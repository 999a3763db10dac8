"""Cache of decoded splits on disk, memory-mapped and verified when read.

A split's folder holds `images.bin` (uint8), `labels.bin` (int32, little-endian) and
`meta.json`, with the shape and a checksum of every byte of the three files.
`meta.json` is written last: a folder without it is incomplete.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isojax.data.disk import make_folder, owner_of
from isojax.data.verified import remembered, state_of
from isojax.errors import UsageError
from isojax.files import write_atomically

VERSION = 1  # increase it whenever a split would be decoded differently
_IMAGES, _LABELS, _META = "images.bin", "labels.bin", "meta.json"
_LABEL_TYPE = np.dtype("<i4")


class Images(NamedTuple):
    """A split in the cache.

    Attributes:
      images: (n, h, w, c) uint8, read-only.
      labels: (n,) int32, -1 for images without a label.
      label_names: name of each class.
      splits: names of all splits of the data set.
    """

    images: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    splits: tuple[str, ...]


class DamagedCacheError(Exception):
    """The content of the cache differs from what was written."""


def read_images(folder: Path) -> Images | None:
    """Maps a split into memory and verifies its checksum, once on each machine.

    The checksum is verified again if a file's size, times or inode have changed.

    Args:
      folder: the split's folder.

    Returns:
      The split, or None if the folder is missing, incomplete or of another version.

    Raises:
      DamagedCacheError: if a byte differs from what was written.
      UsageError: if the user has no permission to read it.
    """
    try:
        content = (folder / _META).read_bytes()
        meta = json.loads(content)
        if meta["version"] != VERSION:
            return None
        images = np.asarray(np.memmap(folder / _IMAGES, np.uint8, mode="r"))
        labels = np.fromfile(folder / _LABELS, _LABEL_TYPE)

        def verify() -> str:
            if _checksum(meta, labels, zlib.crc32(images.data)) != meta["crc32"]:
                raise DamagedCacheError("the checksum differs")
            return "intact"

        paths = [folder / name for name in (_IMAGES, _LABELS, _META)]
        remembered(folder, state_of(paths, content), verify)
        images = images.reshape(meta["shape"])
        return Images(images, labels, tuple(meta["label_names"]), tuple(meta["splits"]))
    except PermissionError as error:
        raise UsageError(
            f"{error.filename} cannot be read ({error.strerror}). Ask "
            f"{owner_of(folder)} to make {folder} readable, or choose another folder "
            "with --data_dir"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not os.path.lexists(folder / _META):
            return None
        raise DamagedCacheError(str(error).splitlines()[0]) from error


def mapped_file(images: np.ndarray) -> Path | None:
    """Returns the file of which an array is the whole content, mapped read-only.

    Args:
      images: any array.

    Returns:
      The path, or None for other arrays.
    """
    base: object = images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    if not isinstance(base, np.memmap) or base.mode != "r" or base.filename is None:
        return None
    is_whole = images.flags.c_contiguous and (
        (images.ctypes.data, images.nbytes) == (base.ctypes.data, base.nbytes)
    )
    return Path(base.filename) if is_whole else None


def remove_images(folder: Path) -> None:
    """Removes a split, so that it can be written again.

    Args:
      folder: the split's folder, which may be missing.

    Raises:
      UsageError: if a part of it cannot be removed, for example because it belongs to
        another user.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(
            f"the images in {folder} are incomplete, damaged or of another version of "
            f"isojax, and cannot be replaced ({error.strerror or error}). Ask "
            f"{owner_of(folder)} to delete the folder, or choose another data folder "
            "with --data_dir"
        ) from error


def write_images(
    folder: Path,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    image_shape: tuple[int, int, int],
    label_names: Iterable[str],
    splits: Iterable[str],
) -> None:
    """Writes a split batch by batch, and removes it again if that fails.

    Args:
      folder: the split's folder, which must not exist, in an existing parent.
      batches: images (b, h, w, c) uint8 and labels (b,) int32 of each batch.
      image_shape: (h, w, c) of an image.
      label_names: name of each class.
      splits: names of all splits of the data set.
    """
    make_folder(folder, root=folder.parent)
    try:
        parts, crc = [], 0
        with open(folder / _IMAGES, "wb") as file:
            # Not through a memory map: a full disk would kill the process.
            for images, batch_labels in batches:
                content = np.ascontiguousarray(images).reshape(-1)
                file.write(content.data)
                crc = zlib.crc32(content.data, crc)
                parts.append(batch_labels)
        labels = np.concatenate(parts).astype(_LABEL_TYPE)
        labels.tofile(folder / _LABELS)
        meta = {
            "version": VERSION,
            "shape": [len(labels), *image_shape],
            "label_names": list(label_names),
            "splits": list(splits),
        }
        meta["crc32"] = _checksum(meta, labels, crc)
        write_atomically(folder / _META, json.dumps(meta, indent=1).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _checksum(meta: dict[str, Any], labels: np.ndarray, crc: int) -> int:
    """CRC-32 of a split, given the CRC-32 of its images."""
    rest = {name: value for name, value in meta.items() if name != "crc32"}
    return zlib.crc32(
        json.dumps(rest, sort_keys=True).encode(), zlib.crc32(labels.data, crc)
    )
