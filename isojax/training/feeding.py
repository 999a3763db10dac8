"""How images reach the training step: from the devices' memory, or streamed to it.

Both ways give the same batches. An image set that fits is copied to every device once
and a step takes indices; a larger one stays mapped from its file and each batch is sent
while the steps before it are computed.
"""

from collections import deque
from collections.abc import Callable, Iterator

import jax
from jax import Array

from isojax import parallel
from isojax.data import Split, training_batches
from isojax.errors import UsageError
from isojax.training.state import TrainState

FEEDS = ("auto", "device", "host")
# The rest of a device's memory is for the network's activations.
_DEVICE_SHARE = 0.25
_BATCHES_AHEAD = 2


class Feed:
    """The batches of a run, on the devices.

    Attributes:
      resident: what every step takes beside its batch: the images where they are in
        the devices' memory, or nothing.
      description: one sentence about where the images are.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int, place: str):
        """Decides where the images go, and puts them there.

        Args:
          split: the training images.
          batch_size: images of a batch, over all devices.
          seed: of the order.
          place: "device", "host", or "auto" to choose by size.

        Raises:
          UsageError: if the images are to be on the devices and are too large.
        """
        self._split, self._batch_size, self._seed = split, batch_size, seed
        on_device, self.description = _choose(split.images.nbytes, place)
        self.resident = (
            parallel.replicate({"images": split.images}) if on_device else {}
        )

    def epoch(self, epoch: int, *, first: int = 0) -> Iterator[dict[str, Array]]:
        """Yields the batches of one epoch, a few sent ahead.

        Args:
          epoch: number of the epoch, from 0.
          first: number of the first batch to yield.

        Yields:
          Batches for a step of `with_resident_images`, split over the devices.
        """
        batches = training_batches(
            self._split,
            batch_size=self._batch_size,
            seed=self._seed,
            epoch=epoch,
            first=first,
            part=parallel.process_part(),
            with_images=not self.resident,
        )
        ahead = deque()
        for batch in batches:
            ahead.append(parallel.split_batch(batch))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft()
        yield from ahead


def with_resident_images(step: Callable) -> Callable:
    """Turns `step(state, batch)` into `step(state, batch, resident)`.

    Args:
      step: of `make_train_step`.

    Returns:
      The step that looks a batch's images up where `resident` has them.
    """

    def fed_step(
        state: TrainState, batch: dict[str, Array], resident: dict[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        if resident:
            batch = batch | {"images": resident["images"][batch["indices"]]}
        return step(state, batch)

    return fed_step


def _choose(size: int, place: str) -> tuple[bool, str]:
    """Whether images of `size` bytes go to the devices, and a sentence that says so."""
    memory = _device_memory()
    size_text = f"The images take {size / 1e6:,.0f} MB"
    if place == "device" and memory is not None and size > memory:
        raise UsageError(
            f"config.data.feed=device: the images take {size / 1e9:.1f} GB and a "
            f"device has {memory / 1e9:.1f} GB; set config.data.feed=host"
        )
    fits = memory is not None and size <= _DEVICE_SHARE * memory
    if place == "device" or (place == "auto" and fits):
        return True, f"{size_text} in the memory of each device."
    return False, f"{size_text}, read by the host and sent batch by batch."


def _device_memory() -> int | None:
    """Bytes of a device's own memory; None where it has none, as a CPU."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    return (device.memory_stats() or {}).get("bytes_limit")
