"""Batches of random crops that are decoded while training."""

from collections.abc import Generator

import numpy as np

from isojax.data.augment.crop import BOX_DRAWS, CropSettings, crop_box
from isojax.data.batches import epoch_order
from isojax.data.encoded_image import EncodedImage
from isojax.data.loader import load_batches
from isojax.data.streamed_images import StreamedImages, crop


def crop_batches(
    images: StreamedImages,
    labels: np.ndarray,
    *,
    crops: tuple[CropSettings, CropSettings],
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields the batches of one epoch, without the last, partial one.

    Images are in the order of `training_batches`. Each image is decoded once for both
    crops, which depend on seed, epoch and the image's number alone.

    Args:
      images: the training images.
      labels: their labels, shape (n,).
      crops: settings of the crops of each view.
      batch_size: images per batch, over all processes.
      seed: seed of the order and of the crops, below 2**64.
      epoch: number of the epoch, from 0.
      first: number of the first batch to yield, to resume inside an epoch.
      part: number of this process and number of processes. Each process reads its share
        of every batch.

    Yields:
      Batches with `crops` (n, 2, side, side, 3) uint8, `labels` (n,) int32 and
      `indices` (n,) int32, the images' numbers in `images`; n is `batch_size` divided
      by the number of processes.

    Raises:
      UsageError: if more than a hundredth of the files cannot be decoded.
    """
    process, processes = part
    share = batch_size // processes
    order = epoch_order(seed, epoch, len(labels))
    full = order[: len(order) // batch_size * batch_size]
    mine = full.reshape(-1, processes, share)[first:, process].reshape(-1)

    def load(place: int) -> dict[str, np.ndarray]:
        index = int(mine[place])
        return {
            "crops": random_crops(images, index, crops=crops, seed=seed, epoch=epoch),
            "labels": labels[index],
            "indices": np.int32(index),
        }

    return load_batches(load, len(mine), batch_size=share)


def random_crops(
    images: StreamedImages,
    index: int,
    *,
    crops: tuple[CropSettings, CropSettings],
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Reads an image and makes the crops of both views.

    Args:
      images: the training images.
      index: number of the image in `images`.
      crops: settings of the crops of each view.
      seed: seed of the crops, below 2**64.
      epoch: number of the epoch, from 0.

    Returns:
      uint8, shape (2, side, side, 3).
    """
    uniform = crop_draws(seed, epoch, index)

    def make(image: EncodedImage) -> np.ndarray:
        drawn = {
            settings: crop_box(uniform, image.height, image.width, **settings._asdict())
            for settings in set(crops)  # usually one
        }
        boxes = [
            [float(side[view]) for side in drawn[settings]]
            for view, settings in enumerate(crops)
        ]
        return crop(image, boxes, side=images.shape[1])

    return images.reader.read(int(images.numbers[index]), make)


def crop_draws(seed: int, epoch: int, index: int) -> np.ndarray:
    """Draws the numbers that determine the crops of an image in an epoch.

    Args:
      seed: at least 0, below 2**64.
      epoch: number of the epoch, from 0.
      index: number of the image, from 0.

    Returns:
      Uniform in [0, 1), float32, shape (2, BOX_DRAWS): a row for each view.
    """
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, index, 0], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return random.random((2, BOX_DRAWS), dtype=np.float32)
