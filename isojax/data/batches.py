"""The order of images in training, a pure function of seed and epoch, and batches."""

from collections.abc import Iterator

import numpy as np

from isojax.data.sources import Split


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the images in one epoch, different for every seed and epoch.

    Args:
      seed: at least 0, below 2**64.
      epoch: number of the epoch, from 0, below 2**32.
      size: number of images.

    Returns:
      A permutation of 0 to size - 1, shape (size,).
    """
    # NumPy splits a seed into words of 32 bits: the upper ones follow the epoch, or
    # seed 2**32 in epoch 0 would give the order of seed 0 in epoch 1.
    words = (seed & 0xFFFFFFFF, epoch, seed >> 32)
    return np.random.default_rng(words).permutation(size)


def training_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    part: tuple[int, int] = (0, 1),
    with_images: bool = True,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of one epoch; the last, partial one is dropped.

    Args:
      split: the training images.
      batch_size: images of a batch, over all processes.
      seed: of the order.
      epoch: number of the epoch, from 0.
      first: number of the first batch to yield, to go on in the middle of an epoch.
      part: number of this process and of all; each gets its share of every batch.
      with_images: whether images are read, or indices are enough.

    Yields:
      `images` (n, h, w, c) uint8, if wanted, `labels` (n,) int32 and `indices` (n,)
      int32, the images' numbers in `split`; n is batch_size over the processes.
    """
    order = epoch_order(seed, epoch, len(split.labels))
    process, processes = part
    share = batch_size // processes
    for batch in range(first, len(order) // batch_size):
        start = batch * batch_size + process * share
        indices = order[start : start + share]
        images = {"images": split.images[indices]} if with_images else {}
        yield images | {
            "labels": split.labels[indices],
            "indices": indices.astype(np.int32),
        }


def full_batches(
    images: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields all images in order, in batches of one size.

    Args:
      images: shape (n, ...).
      batch_size: images of a batch; the last is filled up with some of its own, so
        that one compiled program serves all.

    Yields:
      Batches (min(batch_size, n), ...), and how many of their images count.
    """
    size = min(batch_size, len(images))
    for first in range(0, len(images), size):
        batch = images[first : first + size]
        yield np.resize(batch, (size, *images.shape[1:])), len(batch)
