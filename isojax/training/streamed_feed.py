"""Provides a step with random crops that are decoded while training."""

import numpy as np
from jax import Array

from isojax import processes
from isojax.data.augment.crop import CropSettings
from isojax.data.streamed_batches import crop_batches, random_crops
from isojax.data.streamed_images import StreamedImages
from isojax.training.feeding import Batches, sent_ahead


class StreamedFeed:
    """Yields the batches of a run on the devices, decoded from files.

    The batches depend on the seed, the epoch and their number alone.

    Attributes:
      shared: no arrays; see `Feed`.
      description: one sentence on where the images are.
    """

    def __init__(
        self,
        images: StreamedImages,
        labels: np.ndarray,
        *,
        crops: tuple[CropSettings, CropSettings],
        batch_size: int,
        seed: int,
    ):
        """Creates the feed.

        Args:
          images: the training images.
          labels: their labels, shape (n,).
          crops: settings of the crops of each view.
          batch_size: images per batch, over all devices.
          seed: seed of the order of the images and of the crops.
        """
        self._images, self._labels, self._crops = images, labels, crops
        self._batch_size, self._seed = batch_size, seed
        self.shared: dict[str, Array] = {}
        self.description = (
            f"The images are decoded from {images.reader.files.root} while training."
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._labels)

    def epoch(self, epoch: int, *, first: int = 0) -> Batches:
        """Iterates over the batches of one epoch, sending a few ahead.

        Args:
          epoch: number of the epoch, from 0.
          first: number of the first batch to yield.

        Returns:
          Batches for `train_step`, split over the devices.
        """
        return sent_ahead(
            crop_batches(
                self._images,
                self._labels,
                crops=self._crops,
                batch_size=self._batch_size,
                seed=self._seed,
                epoch=epoch,
                first=first,
                part=processes.process_part(),
            )
        )

    def examples(self, indices: np.ndarray, *, epoch: int) -> dict[str, np.ndarray]:
        """Returns a batch for `make_views` of the given images, in host memory.

        Args:
          indices: numbers of the images, shape (n,) int32.
          epoch: number of the epoch, from 0, whose crops are made.

        Returns:
          The crops, and the centre crops under `images`.
        """
        made = [
            random_crops(
                self._images,
                int(index),
                crops=self._crops,
                seed=self._seed,
                epoch=epoch,
            )
            for index in indices
        ]
        return {
            "images": np.asarray(self._images[indices]),
            "crops": np.stack(made),
            "indices": indices,
        }
