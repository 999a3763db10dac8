"""The order of images in training: a pure function of seed and epoch."""

from collections.abc import Iterator

import numpy as np

from isojax.data.sources import Split


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which epoch number `epoch` visits `size` images, shape (size,)."""
    return np.random.default_rng((seed, epoch)).permutation(size)


def training_batches(
    split: Split, *, batch_size: int, seed: int, epoch: int, first: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of one epoch; the last, partial one is dropped.

    Args:
      split: the training images.
      batch_size: images of a batch.
      seed: of the order.
      epoch: number of the epoch, from 0.
      first: number of the first batch to yield, to go on in the middle of an epoch.

    Yields:
      `images` (batch_size, h, w, c) uint8, `labels` (batch_size,) int32 and `indices`
      (batch_size,) int32, the images' numbers in `split`.
    """
    order = epoch_order(seed, epoch, len(split.images))
    for batch in range(first, len(order) // batch_size):
        indices = order[batch * batch_size : (batch + 1) * batch_size]
        yield {
            "images": split.images[indices],
            "labels": split.labels[indices],
            "indices": indices.astype(np.int32),
        }
