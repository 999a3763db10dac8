"""Decodes the image files of a split into the cache, or reads them from it."""

import itertools
import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from zlib import crc32

import numpy as np
from PIL import Image

from isojax.cpu_cores import cpu_cores
from isojax.data.cache import (
    DamagedCacheError,
    Images,
    read_images,
    remove_images,
    write_images,
)
from isojax.data.disk import (
    make_folder,
    naming_full_disk,
    preparation_lock,
    require_space,
    require_writable,
)
from isojax.data.folder_listing import ImageFiles, fingerprint, split_names
from isojax.data.pictures import Picture, UndecodableImageError, is_grey
from isojax.errors import UsageError, first_line
from isojax.output import print_line
from isojax.progress import image_bar

_BATCH = 256  # images
_BATCHES_AHEAD = 2
_NAMED = 3  # files that could not be decoded, in a message
_SMALLEST = 2  # rows and columns of an image
_BAR_DELAY = 10.0  # seconds; shorter work shows no progress bar


def decoded_images(
    files: ImageFiles, split: str, *, resolution: int, data_dir: Path
) -> Images:
    """Returns the decoded images of a split, from the cache if possible.

    The cache is valid as long as names, classes, sizes and modification times of the
    files stay the same. Files that cannot be decoded are left out and reported.

    Args:
      files: the files of the split.
      split: name of the split.
      resolution: side of the square images, in pixels. The largest centred square of an
        image is resized to it, bicubic and antialiased; an image of this size is
        unchanged.
      data_dir: folder that contains the cache.

    Returns:
      The images, memory-mapped, with 1 channel if all files are grey, otherwise 3.

    Raises:
      UsageError: if no image of a class can be decoded, the images exceed the memory or
        the disk, or the cache cannot be written.
    """
    root = files.root.absolute()
    key = f"{quote(root.name, safe='')}-{crc32(os.fsencode(root)):08x}-{resolution}"
    parent = data_dir / "isojax" / "folders" / key
    prefix = f"{quote(split, safe='+')}-"
    folder = parent / (prefix + fingerprint(files))
    if (found := _read(folder)) is not None:
        return found
    make_folder(parent, root=data_dir)
    require_writable(parent)
    with preparation_lock(parent / ".lock"):
        found = _read(folder)  # written by the previous holder of the lock
        if found is None:
            for old in parent.glob(f"{prefix}*"):
                remove_images(old)
            _decode(folder, files, split, resolution)
            found = _read(folder)
    if found is None:
        raise UsageError(
            f"the images in {folder} were deleted while they were read; run the same "
            "command again"
        )
    return found


def _read(folder: Path) -> Images | None:
    try:
        return read_images(folder)
    except DamagedCacheError as error:
        print_line(
            f"The images in {folder} are damaged ({error}); decoding them again ..."
        )
        return None


def _decode(folder: Path, files: ImageFiles, split: str, resolution: int) -> None:
    """Writes a split to the cache and reports the files that cannot be decoded."""
    count = len(files.names)
    purpose = f"decoding {split} of {files.root}"
    with ThreadPoolExecutor(cpu_cores()) as pool:
        shape = (resolution, resolution, _count_channels(files, pool))
        needed = count * math.prod(shape)
        _require_memory(needed, purpose)
        require_space(folder.parent, needed, purpose=purpose)
        print_line(
            f"{purpose[0].upper()}{purpose[1:]}, {count:,} images, only once ..."
        )
        broken: dict[str, str] = {}
        batches = _decoded_batches(files, shape, pool, broken)
        with naming_full_disk(folder.parent, purpose=purpose):
            write_images(
                folder,
                batches,
                image_shape=shape,
                label_names=files.label_names,
                splits=split_names(files.root),
            )
    if broken:
        named = [
            f"{name} ({why})" for name, why in itertools.islice(broken.items(), _NAMED)
        ]
        more = ", ..." if len(broken) > _NAMED else ""
        print_line(
            f"Warning: {len(broken):,} of {count:,} files in {files.root} could not be "
            f"decoded and are left out: {', '.join(named)}{more}."
        )


def _require_memory(needed: int, purpose: str) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise UsageError(
            f"{purpose} takes {needed / 1e9:,.1f} GB, and this machine has "
            f"{memory / 1e9:,.1f} GB of memory. Set config.data.streaming=true to "
            "decode images during training, or reduce config.data.resolution"
        )


def _count_channels(files: ImageFiles, pool: ThreadPoolExecutor) -> int:
    """Returns 1 if all files are grey, otherwise 3; reads headers only."""

    def is_coloured(name: str) -> bool:
        try:
            return not is_grey(files.root / name)
        except UndecodableImageError:
            return False

    names = iter(files.names)
    while batch := list(itertools.islice(names, _BATCH)):
        if any(pool.map(is_coloured, batch)):
            return 3
    return 1


def _decoded_batches(
    files: ImageFiles,
    shape: tuple[int, int, int],
    pool: ThreadPoolExecutor,
    broken: dict[str, str],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images and labels in the order of the files.

    Adds the names of files that cannot be decoded to `broken`, with the reasons.

    Raises:
      UsageError: after the last batch, if no image of a class could be decoded.
    """
    decoded: set[int] = set()
    with image_bar("decoding", total=len(files.names), delay=_BAR_DELAY) as bar:
        for batch in _submitted(files, shape, pool):
            images, labels = [], []
            for name, label, result in batch:
                try:
                    images.append(result.result())
                    labels.append(label)
                except UndecodableImageError as error:
                    broken[name] = str(error)
            if images:
                decoded.update(labels)
                yield np.stack(images), np.array(labels, np.int32)
            bar.update(len(batch))
    if lost := sorted(set(files.labels.tolist()) - decoded):
        of_class = f" of class {files.label_names[lost[0]]}" if lost[0] >= 0 else ""
        name, reason = next(iter(broken.items()))
        raise UsageError(
            f"no image{of_class} in {files.root} could be decoded, for example {name} "
            f"({reason}); replace the files"
        )


def _submitted(
    files: ImageFiles, shape: tuple[int, int, int], pool: ThreadPoolExecutor
) -> Iterator[list[tuple[str, int, Future[np.ndarray]]]]:
    """Yields batches of name, label and future image, a few of them ahead."""
    entries = zip(files.names, files.labels.tolist(), strict=True)
    ahead: deque[list[tuple[str, int, Future[np.ndarray]]]] = deque()
    while batch := list(itertools.islice(entries, _BATCH)):
        ahead.append(
            [
                (name, label, pool.submit(_decode_file, files.root / name, shape))
                for name, label in batch
            ]
        )
        if len(ahead) > _BATCHES_AHEAD:
            yield ahead.popleft()
    yield from ahead


def _decode_file(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the image of a file, as `square_image` does.

    Raises:
      UndecodableImageError: if the file cannot be read or decoded.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UndecodableImageError(first_line(error)) from error
    return square_image(Picture(content).pixels(), shape)


def square_image(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes the largest centred square of an image, bicubic and antialiased.

    The result equals resizing the shorter side and then cropping the centre.

    Args:
      pixels: uint8, shape (rows, columns, 3).
      shape: (side, side, channels) of the result; 1 channel for images whose three
        channels are equal.

    Returns:
      uint8. An image with this side is returned unchanged.

    Raises:
      UndecodableImageError: if the image has a single row or column.
    """
    side, _, channels = shape
    rows, columns = pixels.shape[:2]
    smaller = min(rows, columns)
    if smaller < _SMALLEST:
        raise UndecodableImageError(f"it has only {columns}x{rows} pixels")
    pixels = pixels[..., 0] if channels == 1 else pixels
    if (rows, columns) != (side, side):
        left, top = (columns - smaller) / 2, (rows - smaller) / 2
        resized = Image.fromarray(pixels).resize(
            (side, side),
            Image.Resampling.BICUBIC,
            box=(left, top, left + smaller, top + smaller),
        )
        pixels = np.asarray(resized)
    return pixels.reshape(shape)
