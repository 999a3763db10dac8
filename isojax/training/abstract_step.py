"""A run's training step for devices that are not present, without any arrays."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.training.assembly import build_step_context, first_state
from isojax.training.config import check_config
from isojax.training.step import train_step
from isojax.training.synthetic_step import synthetic_dataset


class AbstractStep:
    """A training step with the shapes of its state and batch.

    Attributes:
      state: the shapes of the state.
    """

    def __init__(self, config: ConfigDict, devices: list[jax.Device]):
        """Assembles the step; allocates none of its arrays.

        Args:
          config: the run's configuration. `batch_size`, `data.resolution` and the
            length of `data.mean` determine the shape of the batch.
          devices: the devices of all processes.

        Raises:
          UsageError: if the config is invalid, or its batch does not divide evenly
            among the devices.
        """
        check_config(config)
        data_parallel.check_batch_size(
            config.batch_size, parts=config.microbatches, devices=devices
        )
        dataset = synthetic_dataset(config)
        context = build_step_context(config, dataset, devices=devices)
        self._step = data_parallel.MappedStep(
            lambda state, batch, _: train_step(context, state, batch), devices=devices
        )
        self.state = jax.eval_shape(lambda: first_state(config, dataset))
        images = (config.batch_size, *dataset.pretrain.images.shape[1:])
        crops = (images[0], 2, *images[1:])
        rows = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
        self._batch = data_parallel.split_shapes(
            {
                **(
                    {"crops": jax.ShapeDtypeStruct(crops, np.uint8)}
                    if config.data.streaming
                    else {"images": jax.ShapeDtypeStruct(images, np.uint8)}
                ),
                "labels": rows,
                "indices": rows,
            },
            devices,
        )

    def lower(self) -> jax.stages.Lowered:
        """Lowers the step, without compiling it."""
        return self._step.lower(self.state, self._batch, {})

    def trace(self) -> jax.extend.core.ClosedJaxpr:
        """Traces the step, without lowering it."""
        return self._step.trace(self.state, self._batch, {})
