"""Devices and processes: the only file that knows how a step is spread over them."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isojax.errors import UsageError
from isojax.output import report_error

AXIS = "devices"
AUTO = "auto"
_CONNECT_SECONDS = 60
# Variables that hold the number of processes where a launcher started several.
_CLUSTER_SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_CLUSTER_RANKS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Makes this process one of several that train together.

    Called before anything else of JAX. Without arguments it connects where Slurm, Open
    MPI or a TPU pod shows more than one process, and does nothing elsewhere.

    Args:
      coordinator: HOST:PORT where process 0 listens; or "auto", alone, to leave it to
        JAX to find the others, as on TPU virtual machines, which show no variables.
      num_processes: how many there are.
      process_id: which of them this is, from 0.

    Raises:
      UsageError: if an argument is missing or wrong. Where the others do not answer
        within a minute the process says so and ends.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None) and not _in_cluster():
        return
    if given == (AUTO, None, None):
        coordinator = None
    elif given != (None, None, None):
        _check_connection(coordinator, num_processes, process_id)
    # It would swallow the SIGTERM that ends a run.
    jax.config.update("jax_enable_preemption_service", False)
    # At its own timeout JAX aborts the process with a C++ stack trace.
    waiting = threading.Timer(_CONNECT_SECONDS, _give_up, [coordinator])
    waiting.daemon = True
    waiting.start()
    try:
        with _without_proxies():
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=2 * _CONNECT_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        raise UsageError(_connection_problem(given, error)) from error
    finally:
        waiting.cancel()


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Hides the proxy variables of the environment.

    gRPC honours them when it opens a channel, for 127.0.0.1 too. No proxy for downloads
    connects the processes of a training.
    """
    hidden = {name: os.environ.pop(name) for name in _proxy_variables()}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _proxy_variables() -> list[str]:
    return [name for name in os.environ if "_proxy" in name.lower()]


def _connection_problem(given: tuple, error: Exception) -> str:
    """The message of an error of `jax.distributed.initialize`."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if given == (AUTO, None, None):
        return (
            f"--coordinator=auto: JAX found no cluster on this machine ({reason}). "
            "Leave the flag out to train in one process, or give "
            "--coordinator=HOST:PORT with --num_processes and --process_id"
        )
    return f"the processes could not be connected ({reason})"


def check_platform() -> None:
    """Starts JAX's backends, those that JAX_PLATFORMS names if it is set.

    Raises:
      UsageError: if a platform that JAX_PLATFORMS names cannot be used here.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        if not platforms:
            raise
        lines = str(error).splitlines() or ["JAX finds no such device"]
        reason = lines[0].partition(" (set JAX_PLATFORMS")[0].removesuffix(".")
        raise UsageError(
            f"JAX_PLATFORMS={platforms} cannot be used here ({reason}). Unset the "
            "variable to use what there is, or install JAX for that platform"
        ) from error


def _give_up(coordinator: str | None) -> None:
    error = UsageError(
        f"the processes did not find each other within {_CONNECT_SECONDS} seconds; "
        "start all of them at once, with one --num_processes and with "
        f"--coordinator={coordinator or 'HOST:PORT'} where process 0 can be reached"
    )
    os._exit(report_error(error))


@contextmanager
def ending_alone() -> Iterator[None]:
    """Ends this process at once where it fails as one of several.

    At a usual exit JAX waits minutes for the others, and they wait for this one.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        code = report_error(error)
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
        os._exit(code)


def launcher_task() -> tuple[int, int]:
    """Number of this process and of all that Slurm or Open MPI started with it."""
    for size, rank in zip(_CLUSTER_SIZES, _CLUSTER_RANKS, strict=True):
        tasks = int(os.environ.get(size, "1"))
        if tasks > 1:
            return int(os.environ.get(rank, "0")), tasks
    return 0, 1


def _in_cluster() -> bool:
    sizes = [int(os.environ.get(name, "1")) for name in _CLUSTER_SIZES]
    sizes += [len(os.environ.get(name, "").split(",")) for name in _TPU_HOSTS]
    return max(sizes) > 1


def _check_connection(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    if None in (coordinator, num_processes, process_id):
        raise UsageError(
            "--coordinator, --num_processes and --process_id belong together; give all "
            "three, or start the processes with isojax launch"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--coordinator={coordinator} is not HOST:PORT")
    if not 0 <= process_id < num_processes:
        raise UsageError(
            f"--process_id={process_id} is not one of 0 to {num_processes - 1}, as "
            f"--num_processes={num_processes} says"
        )
    if process_id == 0:
        _check_port(coordinator, int(port))


def _check_port(coordinator: str, port: int) -> None:
    """Refuses a port that is in use, at which JAX may end in a segmentation fault."""
    has_ipv6 = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_ipv6 else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=has_ipv6).close()
    except OSError as error:
        raise UsageError(
            f"--coordinator={coordinator}: process 0 cannot listen on port {port} "
            f"({os.strerror(error.errno)}); choose another port"
        ) from error


def is_first_process() -> bool:
    """Whether this is the process that writes the run's folder."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process; all of them must ask."""
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def gather(text: str) -> list[str]:
    """What every process says, in their order; all of them must speak."""
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(data)])).reshape(-1)
    padded = np.pad(data, (0, int(lengths.max()) - len(data)))
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def in_first_process(action: Callable[[], None]) -> None:
    """Calls `action` in the first process, while the others wait.

    Raises:
      UsageError: in every process, where `action` raises one in the first.
    """
    message = ""
    if is_first_process():
        try:
            action()
        except UsageError as error:
            message = str(error)
    if message := gather(message)[0]:
        raise UsageError(message)


def device_count() -> int:
    """Devices that a step is spread over."""
    return jax.device_count()


def local_device_count() -> int:
    """Those of them that are this process's."""
    return jax.local_device_count()


def axis_name() -> str | None:
    """The mapped axis over which a batch is spread; None where there is one device.

    Collectives of one device would change no number, but XLA for CPU keeps them and
    fuses nothing across them.
    """
    return AXIS if device_count() > 1 else None


def check_batch_size(batch_size: int, *, parts: int = 1) -> None:
    """Refuses a global batch that does not divide evenly.

    Args:
      batch_size: images over all devices.
      parts: that each device's images are divided into.

    Raises:
      UsageError: naming the nearest batch size that does.
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


def process_part() -> tuple[int, int]:
    """The number of this process, and of how many."""
    return jax.process_index(), jax.process_count()


def replicate(tree: Any) -> Any:
    """Puts a copy of every array on every device, where a mapped step keeps its state.

    Where several processes train together each has the same arrays and fills its part.
    A state placed otherwise makes the step compile a second time.
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


def map_step(step: Callable) -> Callable:
    """Maps `step(state, batch, shared) -> (state, metrics)` over the devices.

    State, shared arrays and results are replicated, the batch is split along its first
    axis, and the state's memory is reused for the new state. The mapped step takes
    `stop_requested` too, and `metrics["stop_requested"]` is whether any process passed
    True, so that all processes stop after the same step. `lower(state, batch, shared)`
    lowers the mapped step as `jax.jit` does.
    """

    def agreeing_step(state: Any, batch: Any, shared: Any, stop_requested: Array):
        state, metrics = step(state, batch, shared)
        return state, metrics | {
            "stop_requested": jax.lax.pmean(stop_requested, AXIS) > 0
        }

    mapped = jax.pmap(
        agreeing_step,
        axis_name=AXIS,
        in_axes=(None, 0, None, 0),
        out_axes=None,
        donate_argnums=0,
    )
    requests: dict[bool, Array] = {}

    def send_request(stop_requested: bool) -> Array:
        if stop_requested not in requests:
            requests[stop_requested] = _send(
                np.full(jax.local_device_count(), stop_requested, np.float32)
            )
        return requests[stop_requested]

    def run(
        state: Any, batch: Any, shared: Any, *, stop_requested: bool = False
    ) -> tuple[Any, dict[str, Array]]:
        state, metrics = mapped(state, batch, shared, send_request(stop_requested))
        if jax.default_backend() == "cpu" and device_count() > 1:
            # The devices of a CPU share its threads: steps dispatched ahead take those
            # that a collective of the step before waits for, and all stand still.
            jax.block_until_ready(metrics)
        return state, metrics

    run.lower = lambda state, batch, shared: mapped.lower(
        state, batch, shared, send_request(False)
    )
    return run


def split_batch(batch: dict[str, np.ndarray]) -> dict[str, Array]:
    """Sends the rows of this process to its devices, the same number to each.

    Args:
      batch: arrays (n, ...).

    Returns:
      Arrays (devices, n / devices, ...) of the devices of this process.
    """
    devices = jax.local_device_count()
    return {
        name: _send(array.reshape(devices, len(array) // devices, *array.shape[1:]))
        for name, array in batch.items()
    }


def _send(array: np.ndarray) -> Array:
    """Sends each row to its device of this process."""
    mesh = Mesh(jax.local_devices(), (AXIS,))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))
