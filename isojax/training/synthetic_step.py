"""A run's training step on random images, for timing and inspection."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from isojax import data_parallel, processes
from isojax.data import Dataset, Split
from isojax.errors import UsageError
from isojax.training.assembly import build_step_context, first_state
from isojax.training.config import check_config
from isojax.training.step import make_views, train_step

_CLASSES = 10
_STEPS_PER_EPOCH = 100  # of the schedules; the cost of a step does not depend on it


def synthetic_dataset(config: ConfigDict) -> Dataset:
    """Returns a data set of equal images, with the shapes of a run's images.

    The arrays take no memory.

    Args:
      config: the run's configuration, with mean and standard deviation.

    Raises:
      UsageError: if mean or standard deviation are missing.
    """
    if config.data.mean is None or config.data.std is None:
        raise UsageError(
            "config.data.mean and config.data.std cannot be computed here, because no "
            "images are loaded; set both, one value per channel"
        )
    side, channels = config.data.resolution, len(config.data.mean)
    count = _STEPS_PER_EPOCH * config.batch_size
    epoch = Split(
        np.broadcast_to(np.uint8(0), (count, side, side, channels)),
        np.broadcast_to(np.int32(0), (count,)),
    )
    return Dataset(epoch, epoch, epoch, "test", _CLASSES, ())


class SyntheticStep:
    """A training step with its state and a batch of random images.

    Attributes:
      state: the current state, on the devices.
      host_batch: the batch that every step trains on, in host memory.
    """

    def __init__(self, config: ConfigDict):
        """Creates the state and a batch of random images.

        Args:
          config: the run's configuration. `batch_size`, `data.resolution` and the
            length of `data.mean` determine the shape of the batch.

        Raises:
          UsageError: if the config is invalid.
        """
        check_config(config)
        data_parallel.check_batch_size(config.batch_size, parts=config.microbatches)
        dataset = synthetic_dataset(config)
        shape = (config.batch_size, *dataset.pretrain.images.shape[1:])
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(len(images), dtype=np.int32) % _CLASSES
        context = build_step_context(config, dataset)
        self._views = context.views
        self._step = data_parallel.MappedStep(
            lambda state, batch, _: train_step(context, state, batch)
        )
        self.host_batch: dict[str, np.ndarray] = {
            **(
                {"crops": np.stack([images, images[::-1]], axis=1)}
                if config.data.streaming
                else {"images": images}
            ),
            "labels": labels,
            "indices": np.arange(len(images), dtype=np.int32),
        }
        part, parts = processes.process_part()
        self._batch = data_parallel.split_batch(
            {name: rows[part::parts] for name, rows in self.host_batch.items()}
        )
        self.state = data_parallel.replicate(first_state(config, dataset))

    def lower(self) -> jax.stages.Lowered:
        """Lowers the step, without compiling it."""
        return self._step.lower(self.state, self._batch, {})

    def trace(self) -> jax.extend.core.ClosedJaxpr:
        """Traces the step, without compiling it."""
        return self._step.trace(self.state, self._batch, {})

    def views(self) -> list[Array]:
        """Returns the two views that the next step makes, (n, h, w, c) each."""
        key = jax.random.fold_in(self.state.key, self.state.step)
        batch = {name: jnp.asarray(rows) for name, rows in self.host_batch.items()}
        return make_views(key, batch, views=self._views)

    def step(self) -> dict[str, Array]:
        """Trains one step; returns its metrics without waiting for them."""
        result = self._step(self.state, self._batch, {})
        self.state = result.state
        return result.report.metrics
