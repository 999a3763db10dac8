"""Data-parallel training: placement of arrays and mapping of steps over devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isojax.errors import UsageError

AXIS = "devices"


def device_count() -> int:
    """Returns the number of devices over all processes."""
    return jax.device_count()


def local_device_count() -> int:
    """Returns the number of devices of this process."""
    return jax.local_device_count()


def axis_name() -> str | None:
    """Returns the name of the mapped axis of the devices; None with one device.

    With one device collectives have no effect, but XLA for CPU would keep them and not
    fuse across them.
    """
    return AXIS if device_count() > 1 else None


def check_batch_size(batch_size: int, *, parts: int = 1) -> None:
    """Checks that a global batch divides evenly.

    Args:
      batch_size: number of images over all devices.
      parts: number of parts that each device's images are divided into.

    Raises:
      UsageError: if it does not. The message suggests the nearest batch size that does.
    """
    devices = device_count()
    pieces = devices * parts
    if batch_size % pieces:
        nearest = max(pieces, batch_size // pieces * pieces)
        among = f"the {devices} devices"
        if parts > 1:
            among += f" times config.microbatches={parts}"
        raise UsageError(
            f"config.batch_size={batch_size} is not divisible by {among}; set "
            f"config.batch_size={nearest}"
        )


def replicate(tree: Any) -> Any:
    """Copies every array to every device, the placement that `MappedStep` expects.

    With several processes, all have the same arrays and each fills its own devices. A
    state with another placement would make the step compile a second time.
    """
    everywhere = NamedSharding(Mesh(jax.devices(), (AXIS,)), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def put(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(
            host.shape, everywhere, lambda index: host[index]
        )

    return jax.tree.map(put, tree)


class StepResult(NamedTuple):
    """What a mapped step returns.

    Attributes:
      state: the new state, replicated.
      report: second result of the step, such as metrics; replicated.
      stop_requested: whether any process passed `stop_requested=True` to this step, so
        that all processes stop after the same step.
    """

    state: Any
    report: Any
    stop_requested: Array


class MappedStep:
    """A step `step(state, batch, shared) -> (state, report)` mapped over the devices.

    State, shared arrays and results are replicated. The batch is split along its first
    axis. The memory of the state is reused for the new state.
    """

    def __init__(self, step: Callable[[Any, Any, Any], tuple[Any, Any]]):
        """Maps a step, without compiling it yet.

        Args:
          step: pure function of state, batch and shared arrays.
        """

        def agreeing_step(
            state: Any, batch: Any, shared: Any, stop_requested: Array
        ) -> StepResult:
            state, report = step(state, batch, shared)
            return StepResult(state, report, jax.lax.pmean(stop_requested, AXIS) > 0)

        self._mapped = jax.pmap(
            agreeing_step,
            axis_name=AXIS,
            in_axes=(None, 0, None, 0),
            out_axes=None,
            donate_argnums=0,
        )
        self._flags: dict[bool, Array] = {}

    def __call__(
        self, state: Any, batch: Any, shared: Any, *, stop_requested: bool = False
    ) -> StepResult:
        """Dispatches a step.

        Args:
          state: replicated state; its memory is reused.
          batch: arrays (devices, n / devices, ...), as `split_batch` returns them.
          shared: replicated arrays.
          stop_requested: whether this process was asked to stop.

        Returns:
          The results of the step, usually while they are still being computed.
        """
        result = self._mapped(state, batch, shared, self._flag(stop_requested))
        if jax.default_backend() == "cpu" and device_count() > 1:
            # CPU devices share threads: steps dispatched ahead would occupy those that
            # a collective of the previous step waits for, and deadlock.
            jax.block_until_ready((result.report, result.stop_requested))
        return result

    def lower(self, state: Any, batch: Any, shared: Any) -> jax.stages.Lowered:
        """Lowers the mapped step, as `jax.jit` does."""
        return self._mapped.lower(state, batch, shared, self._flag(False))

    def _flag(self, value: bool) -> Array:
        """Returns the value on every device of this process, transferred once."""
        if value not in self._flags:
            flags = np.full(jax.local_device_count(), value, np.float32)
            self._flags[value] = _send(flags)
        return self._flags[value]


def split_batch(batch: dict[str, np.ndarray]) -> dict[str, Array]:
    """Sends the rows of this process to its devices, the same number to each device.

    Args:
      batch: arrays (n, ...).

    Returns:
      Arrays (devices, n / devices, ...) on the devices of this process.
    """
    devices = jax.local_device_count()
    return {
        name: _send(array.reshape(devices, len(array) // devices, *array.shape[1:]))
        for name, array in batch.items()
    }


def _send(array: np.ndarray) -> Array:
    """Sends each row to one device of this process."""
    mesh = Mesh(jax.local_devices(), (AXIS,))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))
