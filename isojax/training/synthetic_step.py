"""A run's training step on random images, to be timed or looked into."""

from typing import Any

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from isojax import parallel
from isojax.data import Dataset, Split
from isojax.errors import UsageError
from isojax.training.assembly import build, first_state
from isojax.training.config import check_config
from isojax.training.step import make_train_step, make_views

_CLASSES = 10
_STEPS_PER_EPOCH = 100  # of the schedules; a step costs the same in all of them


class SyntheticStep:
    """A step with everything that it needs, but for a data set.

    Attributes:
      state: on the devices, as training has brought it.
    """

    def __init__(self, config: ConfigDict):
        """Makes the state and a batch of random images.

        Args:
          config: of the run; `data.resolution` and `batch_size` give the batch.

        Raises:
          UsageError: if the config cannot be run.
        """
        check_config(config)
        parallel.check_batch_size(config.batch_size, parts=config.microbatches)
        if config.data.mean is None or config.data.std is None:
            raise UsageError(
                "config.data.mean and config.data.std are computed from images, and "
                "none are loaded here; set both, one value a channel"
            )
        self._config = config
        side, channels = config.data.resolution, len(config.data.mean)
        rng = np.random.default_rng(0)
        shape = (config.batch_size, side, side, channels)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(len(images), dtype=np.int32) % _CLASSES
        epoch = Split(
            np.broadcast_to(images[:1], (_STEPS_PER_EPOCH * len(images), *shape[1:])),
            np.zeros(_STEPS_PER_EPOCH * len(images), np.int32),
        )
        dataset = Dataset(epoch, epoch, epoch, "test", _CLASSES, ())
        network, optimizer, learning_rate = build(config, dataset)
        train_step = make_train_step(
            network,
            optimizer,
            learning_rate,
            config,
            total_steps=_STEPS_PER_EPOCH * config.epochs,
            axis_name=parallel.axis_name(),
        )
        self._step = parallel.map_step(lambda state, batch, _: train_step(state, batch))
        self._host_batch = {
            "images": images,
            "labels": labels,
            "indices": np.arange(len(images), dtype=np.int32),
        }
        part, parts = parallel.process_part()
        self._batch = parallel.split_batch(
            {name: rows[part::parts] for name, rows in self._host_batch.items()}
        )
        self.state = parallel.replicate(first_state(config, dataset))

    def lower(self) -> jax.stages.Lowered:
        """The step as JAX lowers it, before XLA compiles it."""
        return self._step.lower(self.state, self._batch, {})

    def views(self) -> list[Array]:
        """The two views of the batch that the next step makes, (n, h, w, c) each."""
        key = jax.random.fold_in(self.state.key, self.state.step)
        return make_views(key, self._host_batch, config=self._config)

    def step(self) -> dict[str, Any]:
        """Trains a step; its metrics, not waited for."""
        self.state, metrics = self._step(self.state, self._batch, {})
        return metrics
