"""Placement of arrays, and mapping of steps and functions, over the devices."""

import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isojax.errors import UsageError

AXIS = "devices"
# Batches dispatched after the one whose result is fetched, so that devices never idle.
_BATCHES_AHEAD = 2
Result = TypeVar("Result")
# The devices of a program that is compiled but not run here, as
# `isojax.targets.devices.target_devices` returns them; None for those of JAX.
Devices: TypeAlias = Sequence[jax.Device] | None


def device_count(devices: Devices = None) -> int:
    """Returns the number of devices over all processes."""
    return jax.device_count() if devices is None else len(devices)


def local_device_count() -> int:
    """Returns the number of devices of this process."""
    return jax.local_device_count()


def is_cpu(devices: Devices = None) -> bool:
    """Returns whether the devices are CPUs."""
    return (jax.devices() if devices is None else devices)[0].platform == "cpu"


def axis_name(devices: Devices = None) -> str | None:
    """Returns the name of the mapped axis of the devices; None with one device.

    With one device collectives have no effect, but XLA for CPU would keep them and not
    fuse across them.
    """
    return AXIS if device_count(devices) > 1 else None


def check_batch_size(
    batch_size: int, *, parts: int = 1, devices: Devices = None
) -> None:
    """Checks that a global batch divides evenly.

    Args:
      batch_size: number of images over all devices.
      parts: number of parts that each device's images are divided into.
      devices: the devices that share the batch.

    Raises:
      UsageError: if it does not. The message suggests the nearest batch size that does.
    """
    count = device_count(devices)
    pieces = count * parts
    if batch_size % pieces:
        nearest = max(pieces, batch_size // pieces * pieces)
        among = f"the {count} devices"
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

    def __init__(
        self,
        step: Callable[[Any, Any, Any], tuple[Any, Any]],
        *,
        devices: Devices = None,
    ):
        """Maps a step, without compiling it yet.

        Args:
          step: pure function of state, batch and shared arrays.
          devices: the devices to compile for, if they are not those of JAX. The step
            can then be lowered, but not called.
        """
        self._devices = devices

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
            devices=devices,
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
        _without_deadlock((result.report, result.stop_requested))
        return result

    def lower(self, state: Any, batch: Any, shared: Any) -> jax.stages.Lowered:
        """Lowers the mapped step, as `jax.jit` does.

        Args:
          state: arrays or their `jax.ShapeDtypeStruct`.
          batch: arrays, or shapes as `split_shapes` returns them.
          shared: arrays or their `jax.ShapeDtypeStruct`.
        """
        return self._mapped.lower(state, batch, shared, self._lowering_flag())

    def trace(self, state: Any, batch: Any, shared: Any) -> jax.extend.core.ClosedJaxpr:
        """Traces the mapped step; the arguments are those of `lower`."""
        return jax.make_jaxpr(self._mapped)(state, batch, shared, self._lowering_flag())

    def _lowering_flag(self) -> Array | jax.ShapeDtypeStruct:
        if self._devices is None:
            return self._flag(False)
        return jax.ShapeDtypeStruct((len(self._devices),), jnp.float32)

    def _flag(self, value: bool) -> Array:
        """Returns the value on every device of this process, transferred once."""
        if value not in self._flags:
            flags = np.full(jax.local_device_count(), value, np.float32)
            self._flags[value] = _send(flags)
        return self._flags[value]


class MappedFunction:
    """A function `function(shared, batch)` mapped over the devices, for evaluation.

    The shared arrays are replicated and the batch is split along its first axis. Either
    the result has the rows of the batch: then each row depends on the same row of the
    batch alone, and no process waits for another. Or the results are added over all
    devices: then all processes must call the function.

    Attributes:
      function: the function, as it was passed.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        *,
        adds: bool = False,
        devices: Devices = None,
    ):
        """Maps a function, without compiling it yet.

        Args:
          function: pure function of the shared arrays and a device's rows.
          adds: whether the results are added over the devices of all processes.
          devices: the devices to compile for, if they are not those of JAX. The
            function can then be lowered, but not called.
        """

        def added(shared: Any, batch: Any) -> Any:
            found = function(shared, batch)
            return found if axis_name(devices) is None else jax.lax.psum(found, AXIS)

        self.function = function
        self._adds = adds
        self._mapped = jax.pmap(
            added if adds else function,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None if adds else 0,
            devices=devices,
        )

    def on(self, devices: Sequence[jax.Device]) -> "MappedFunction":
        """Returns the function mapped over devices that need not be present."""
        return MappedFunction(self.function, adds=self._adds, devices=devices)

    def __call__(self, shared: Any, batch: Any) -> Any:
        """Dispatches the function.

        Args:
          shared: arrays of the host, or replicated.
          batch: arrays (devices, n / devices, ...), as `split_batch` returns them.

        Returns:
          Arrays (devices, n / devices, ...), or the sums; usually while they are still
          being computed.
        """
        found = self._mapped(shared, batch)
        return _without_deadlock(found) if self._adds else found

    def map_batches(
        self, shared: Any, batches: Iterable[tuple[Any, int]]
    ) -> Iterator[Any]:
        """Applies the function to batches in turn, a few of them ahead.

        Args:
          shared: arrays of the host, or replicated.
          batches: trees of arrays (n, ...) of this process, with n divisible by its
            number of devices, each with the number of rows to return.

        Yields:
          The result for each batch, NumPy arrays with that number of rows.
        """
        results = (
            (self(shared, split_batch(batch)), count) for batch, count in batches
        )
        for found, count in computed(results):
            first_rows = operator.itemgetter(slice(count))
            yield jax.tree.map(first_rows, join_batch(found))

    def lower(self, shared: Any, batch: Any) -> jax.stages.Lowered:
        """Lowers the mapped function, as `jax.jit` does."""
        return self._mapped.lower(shared, batch)


def rows_per_device(count: int, most: int) -> int:
    """Returns how many rows a device takes at a time, at least 1.

    Args:
      count: number of rows, over all processes.
      most: largest number of rows of a device.
    """
    return max(1, min(most, math.ceil(count / device_count())))


def own_rows(count: int, size: int) -> slice:
    """Returns which rows this process computes.

    The processes have consecutive parts of about equal length. A part begins at a
    multiple of `size`, so that the batches of a device do not depend on the number of
    processes.

    Args:
      count: number of rows, over all processes.
      size: rows per device and batch.
    """
    process, processes = jax.process_index(), jax.process_count()
    share = math.ceil(math.ceil(count / size) / processes) * size
    return slice(min(count, process * share), min(count, (process + 1) * share))


def computed(results: Iterable[Result]) -> Iterator[Result]:
    """Waits for results in their order, after dispatching a few more.

    Args:
      results: iterable that dispatches a computation for each of its items.

    Yields:
      The results, once they are computed.
    """
    ahead: deque[Result] = deque()
    for result in results:
        ahead.append(result)
        if len(ahead) > _BATCHES_AHEAD:
            yield jax.block_until_ready(ahead.popleft())
    while ahead:
        yield jax.block_until_ready(ahead.popleft())


def split_batch(batch: Any) -> Any:
    """Sends the rows of this process to its devices, the same number to each device.

    Args:
      batch: tree of arrays (n, ...).

    Returns:
      Arrays (devices, n / devices, ...) on the devices of this process.
    """
    devices = jax.local_device_count()
    return jax.tree.map(
        lambda x: _send(x.reshape(devices, len(x) // devices, *x.shape[1:])), batch
    )


def join_batch(batch: Any) -> Any:
    """Returns the rows of this process, as NumPy arrays (n, ...).

    Args:
      batch: tree of arrays (devices, n / devices, ...), the reverse of `split_batch`.
    """
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)


def split_rows(rows: Mapping[str, Any]) -> dict[str, Array]:
    """Sends every device of all processes an equal share of rows, filled up by zeros.

    Args:
      rows: arrays (n, ...), the same in every process, of which a slice converts to a
        NumPy array.

    Returns:
      Arrays (devices, rows, ...) on the devices of this process. If n is not divisible
      by the number of devices, `counted` (devices, rows) is 1 for the n rows and 0 for
      those that fill up, float32.
    """
    devices = jax.local_devices()
    first = jax.process_index() * len(devices)
    placement = NamedSharding(Mesh(devices, (AXIS,)), PartitionSpec(AXIS))

    def place(array: Any) -> Array:
        share = math.ceil(len(array) / device_count())

        def part(number: int) -> np.ndarray:
            found = np.asarray(array[number * share : (number + 1) * share])
            if missing := share - len(found):
                found = np.pad(found, [(0, missing)] + [(0, 0)] * (found.ndim - 1))
            return found[None]

        return jax.make_array_from_single_device_arrays(
            (len(devices), share, *array.shape[1:]),
            placement,
            [jax.device_put(part(first + n), each) for n, each in enumerate(devices)],
        )

    count = len(next(iter(rows.values())))
    if count % device_count():
        rows = {**rows, "counted": np.ones(count, np.float32)}
    return {name: place(array) for name, array in rows.items()}


def _without_deadlock(results: Result) -> Result:
    """Waits for results that needed a collective, if the devices share threads.

    CPU devices do: programs dispatched ahead would occupy the threads that a collective
    of the previous program waits for.
    """
    if jax.default_backend() == "cpu" and device_count() > 1:
        jax.block_until_ready(results)
    return results


def split_shapes(
    batch: Mapping[str, jax.ShapeDtypeStruct], devices: Sequence[jax.Device]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes (devices, n / devices, ...) of a batch spread over devices.

    Args:
      batch: shapes (n, ...) over all devices; n is divisible by their number.
      devices: the devices of all processes.
    """
    count = len(devices)
    return {
        name: jax.ShapeDtypeStruct(
            (count, shape.shape[0] // count, *shape.shape[1:]), shape.dtype
        )
        for name, shape in batch.items()
    }


def _send(array: np.ndarray) -> Array:
    """Sends each row to one device of this process."""
    mesh = Mesh(jax.local_devices(), (AXIS,))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))
