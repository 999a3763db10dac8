"""Provides a step with images, from the devices' memory or streamed from the host.

Both ways give the same batches. An image set that fits in memory is copied to every
device once, and a step takes indices. A larger one stays on the host, and a thread
prepares and sends each batch while earlier steps are computed.
"""

import json
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import Array

from isojax import data_parallel, processes
from isojax.data import Split, training_batches
from isojax.errors import UsageError, choose

# Fraction of a device's memory that the images may fill; activations need the rest.
_DEVICE_SHARE = 0.25
_BATCHES_AHEAD = 2

# Batches of one epoch on the devices. Closing it ends the thread that prepares them.
Batches: TypeAlias = Generator[dict[str, Array], None, None]


class Feed:
    """Yields the batches of a run on the devices.

    Attributes:
      shared: arrays that every step takes in addition to its batch: the images if
        they are in the devices' memory, otherwise none.
      description: one sentence on where the images are.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int, place: str):
        """Chooses where the images are kept, and copies them there.

        Must be called by every process; all make the same choice.

        Args:
          split: the training images.
          batch_size: images per batch, over all devices.
          seed: seed of the order of the images.
          place: a name in `FEEDS`.

        Raises:
          UsageError: if the place is unknown, or is "device" and the images are larger
            than a device's memory.
        """
        self._split, self._batch_size, self._seed = split, batch_size, seed
        size = split.images.nbytes
        on_device = choose("config.data.feed", place, FEEDS)(size, _smallest_memory())
        self.shared: dict[str, Array] = (
            data_parallel.replicate({"images": split.images}) if on_device else {}
        )
        self.description = f"The images take {size / 1e6:,.0f} MB" + (
            " in the memory of each device."
            if on_device
            else ", read by the host and sent batch by batch."
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._split.labels)

    def epoch(self, epoch: int, *, first: int = 0) -> Batches:
        """Iterates over the batches of one epoch, sending a few ahead.

        Args:
          epoch: number of the epoch, from 0.
          first: number of the first batch to yield.

        Returns:
          Batches for a step made by `with_shared_images`, split over the devices.
        """
        batches = training_batches(
            self._split,
            batch_size=self._batch_size,
            seed=self._seed,
            epoch=epoch,
            first=first,
            part=processes.process_part(),
            with_images=not self.shared,
        )
        return sent_ahead(batches)

    def examples(self, indices: np.ndarray, *, epoch: int) -> dict[str, np.ndarray]:
        """Returns a batch for `make_views` of the given images, in host memory.

        Args:
          indices: numbers of the images, shape (n,) int32.
          epoch: number of the epoch, from 0; not used.
        """
        del epoch
        return {"images": np.asarray(self._split.images[indices]), "indices": indices}


def sent_ahead(batches: Generator[dict[str, np.ndarray], None, None]) -> Batches:
    """Prepares batches in a thread, and sends a few to the devices ahead of their use.

    Args:
      batches: this process's part of each batch. Its exceptions are raised here. It is
        closed with the result.

    Yields:
      The batches on the devices.
    """

    def send_next() -> dict[str, Array] | None:
        batch = next(batches, None)
        return None if batch is None else data_parallel.split_batch(batch)

    ahead: deque[Future[dict[str, Array] | None]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        ahead.extend(pool.submit(send_next) for _ in range(_BATCHES_AHEAD + 1))
        while (batch := ahead.popleft().result()) is not None:
            yield batch
            del batch  # frees its memory before the next one is sent
            ahead.append(pool.submit(send_next))
    finally:
        pool.shutdown(cancel_futures=True)  # waits for the batch in preparation
        batches.close()


def with_shared_images(step: Callable) -> Callable:
    """Turns `step(state, batch)` into `step(state, batch, shared)`.

    Args:
      step: the step, such as `train_step` with its context bound.

    Returns:
      A step that takes a batch's images from `shared`, by index, unless it is empty.
    """

    def fed_step(
        state: Any, batch: dict[str, Array], shared: dict[str, Array]
    ) -> tuple[Any, Any]:
        if shared:
            batch = batch | {"images": shared["images"][batch["indices"]]}
        return step(state, batch)

    return fed_step


def _fits(size: int, memory: int | None) -> bool:
    return memory is not None and size <= _DEVICE_SHARE * memory


def _on_device(size: int, memory: int | None) -> bool:
    if memory is not None and size > memory:
        raise UsageError(
            f"config.data.feed=device: the images take {size / 1e9:.1f} GB and a "
            f"device has {memory / 1e9:.1f} GB; set config.data.feed=host"
        )
    return True


# Functions by the value of config.data.feed. Each takes the bytes of the images and of
# a device's memory (None for a CPU), and returns whether the device keeps the images.
FEEDS: dict[str, Callable[[int, int | None], bool]] = {
    "auto": _fits,
    "device": _on_device,
    "host": lambda size, memory: False,
}


def _smallest_memory() -> int | None:
    """Bytes of a device's own memory, the smallest of all processes; None for a CPU."""
    found = [
        json.loads(each) for each in processes.gather(json.dumps(_device_memory()))
    ]
    return None if None in found else min(found)


def _device_memory() -> int | None:
    """Bytes of a device's own memory; None for a CPU."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    return (device.memory_stats() or {}).get("bytes_limit")
