"""Batches, and the order of the training images as a function of seed and epoch."""

from collections.abc import Generator, Iterator

import numpy as np

from isojax.data.dataset import ImageArray, Split


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Returns the order of the images in an epoch, different for each seed and epoch.

    Args:
      seed: at least 0, below 2**64.
      epoch: number of the epoch, from 0, below 2**32.
      size: number of images.

    Returns:
      A permutation of 0 to size - 1, shape (size,).
    """
    # NumPy splits a seed into 32-bit words. The upper word follows the epoch; otherwise
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
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields the batches of one epoch, without the last, partial one.

    Args:
      split: the training images.
      batch_size: images per batch, over all processes.
      seed: seed of the order.
      epoch: number of the epoch, from 0.
      first: number of the first batch to yield, to resume inside an epoch.
      part: number of this process and number of processes. Each process gets its share
        of every batch.
      with_images: whether to yield images in addition to their indices.

    Yields:
      Batches with `images` (n, h, w, c) uint8, if requested, `labels` (n,) int32 and
      `indices` (n,) int32, the images' numbers in `split`; n is `batch_size` divided by
      the number of processes.
    """
    order = epoch_order(seed, epoch, len(split.labels))
    process, processes = part
    share = batch_size // processes
    for batch in range(first, len(order) // batch_size):
        start = batch * batch_size + process * share
        indices = order[start : start + share]
        images = {"images": np.asarray(split.images[indices])} if with_images else {}
        yield images | {
            "labels": split.labels[indices],
            "indices": indices.astype(np.int32),
        }


def full_batches(
    images: ImageArray, batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields all images in order, in batches of equal size.

    Args:
      images: shape (n, ...).
      batch_size: images per batch. The last batch is filled up by repeating its images,
        so that one compiled program is enough.

    Yields:
      Batches (batch_size, ...), and the number of images in each that are not repeated.
    """
    batches: Iterator[np.ndarray]
    if isinstance(images, np.ndarray):
        batches = (
            images[i : i + batch_size] for i in range(0, len(images), batch_size)
        )
    else:
        batches = images.batches(batch_size)
    for batch in batches:
        yield np.resize(batch, (batch_size, *images.shape[1:])), len(batch)
