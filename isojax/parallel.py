"""Devices: the only file that knows how a step is spread over them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isojax.errors import UsageError

AXIS = "devices"


def device_count() -> int:
    """Devices that a step is spread over."""
    return jax.device_count()


def check_batch_size(batch_size: int) -> None:
    """Refuses a global batch that does not divide evenly.

    Raises:
      UsageError: naming the nearest batch size that does.
    """
    devices = device_count()
    if batch_size % devices:
        nearest = max(devices, batch_size // devices * devices)
        raise UsageError(
            f"config.batch_size={batch_size} is not divisible by the {devices} "
            f"devices; set config.batch_size={nearest}"
        )


def process_part() -> tuple[int, int]:
    """The number of this process, and of how many."""
    return jax.process_index(), jax.process_count()


def replicate(tree: Any) -> Any:
    """Puts a copy of every array on every device, where a mapped step keeps its state.

    A state placed otherwise makes the step compile a second time.
    """
    return jax.device_put(tree, NamedSharding(_local_mesh(), PartitionSpec()))


def map_step(step: Callable) -> Callable:
    """Maps `step(state, batch, shared)` over the devices.

    State, shared arrays and results are replicated, the batch is split along its first
    axis, and the state's memory is reused for the new state.
    """
    mapped = jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0
    )

    def run(state: Any, batch: Any, shared: Any) -> tuple[Any, Any]:
        state, metrics = mapped(state, batch, shared)
        if jax.default_backend() == "cpu" and device_count() > 1:
            # The devices of a CPU share its threads: steps dispatched ahead take those
            # that a collective of the step before waits for, and all stand still.
            jax.block_until_ready(metrics)
        return state, metrics

    return run


def split_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Sends the rows of this process to its devices, the same number to each.

    Args:
      batch: arrays (n, ...).

    Returns:
      Arrays (devices, n / devices, ...) of the devices of this process.
    """
    devices = jax.local_device_count()
    sharding = NamedSharding(_local_mesh(), PartitionSpec(AXIS))
    return {
        name: jax.device_put(
            array.reshape(devices, len(array) // devices, *array.shape[1:]), sharding
        )
        for name, array in batch.items()
    }


def _local_mesh() -> Mesh:
    return Mesh(jax.local_devices(), (AXIS,))
