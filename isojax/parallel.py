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


def replicate(state: Any) -> Any:
    """Puts a copy of every array on every device, where a mapped step keeps its state.

    A state placed otherwise makes the step compile a second time.
    """
    mesh = Mesh(jax.devices(), (AXIS,))
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def map_step(step: Callable) -> Callable:
    """Maps `step(state, batch)` over the devices.

    State and results are replicated, the batch is split along its first axis, and the
    state's memory is reused for the new state.
    """
    return jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0
    )


def split_batch(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives every array (n, ...) an axis of devices: (devices, n / devices, ...)."""
    devices = device_count()
    return {
        name: array.reshape(devices, len(array) // devices, *array.shape[1:])
        for name, array in batch.items()
    }
