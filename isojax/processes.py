"""Connection and coordination of the processes of a run or an evaluation."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from isojax import output
from isojax.errors import UsageError
from isojax.launchers import (
    COORDINATOR_PORT,
    launcher_task,
    local_gpus,
    slurm_port,
    visible_gpus,
)

AUTO = "auto"
_CONNECT_SECONDS = 60
_GATHERED_BYTES = 2**26  # of the rows that devices hold at a time in `gather_rows`
_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process to the other processes of a run or an evaluation.

    Must be called before any other use of JAX. Without arguments it connects if the
    environment shows more than one process of Slurm, Open MPI or a TPU pod, and
    otherwise does nothing. The process takes all GPUs that it can see, but processes of
    Slurm or Open MPI that see the same ones divide them; see `launchers.local_gpus`.

    Args:
      coordinator: HOST:PORT on which process 0 listens, or "auto" without the other
        arguments to let JAX detect the cluster, as on TPU virtual machines.
      num_processes: number of processes.
      process_id: number of this process, from 0.

    Raises:
      UsageError: if an argument is missing or wrong, or the processes cannot divide the
        GPUs of their machine. If the other processes do not answer within a minute,
        this process prints an error and exits.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None) and not _in_cluster():
        return
    if given == (AUTO, None, None):
        coordinator = None
    elif given != (None, None, None):
        if coordinator is None or num_processes is None or process_id is None:
            raise UsageError(
                "--coordinator, --num_processes and --process_id belong together; give "
                "all three, or start the processes with isojax launch"
            )
        _check_connection(coordinator, num_processes, process_id)
    task = launcher_task()
    gpus = local_gpus(task)
    if task.tasks > 1 and (port := slurm_port()):
        os.environ.setdefault(COORDINATOR_PORT, port)
    # It would intercept the SIGTERM that stops a run.
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
                gpus,
                # Under a launcher JAX would take one device even with an address.
                cluster_detection_method="deactivate" if coordinator else None,
                initialization_timeout=2 * _CONNECT_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        raise UsageError(_connection_problem(given, error)) from error
    finally:
        waiting.cancel()


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Removes the proxy variables from the environment while the context is open.

    gRPC uses them when it opens a channel, even to 127.0.0.1, but a proxy for downloads
    does not connect training processes.
    """
    hidden = {name: os.environ.pop(name) for name in _proxy_variables()}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _proxy_variables() -> list[str]:
    return [name for name in os.environ if "_proxy" in name.lower()]


def _connection_problem(given: tuple, error: Exception) -> str:
    """Returns the message for an error of `jax.distributed.initialize`."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if given == (AUTO, None, None):
        return (
            f"--coordinator=auto: JAX found no cluster on this machine ({reason}). "
            "Leave the flag out to use one process, or give "
            "--coordinator=HOST:PORT with --num_processes and --process_id"
        )
    return f"the processes could not be connected ({reason})"


def check_platform() -> None:
    """Initialises JAX's backends; only those in JAX_PLATFORMS if it is set.

    Raises:
      UsageError: if a platform in JAX_PLATFORMS is not available.
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
            f"JAX_PLATFORMS={platforms} is not available ({reason}). Unset it to use "
            "the available devices, or install JAX for that platform"
        ) from error


def print_local_devices() -> None:
    """Prints how many devices this process uses, if it is one of several."""
    if jax.process_count() > 1:
        used = jax.local_device_count()
        visible = max(used, visible_gpus())
        output.print_line(
            f"process {jax.process_index()} of {jax.process_count()}: {used} of "
            f"{visible} local devices"
        )


def _give_up(coordinator: str | None) -> None:
    error = UsageError(
        f"the processes did not find each other within {_CONNECT_SECONDS} seconds; "
        "start all of them at once, with one --num_processes and with "
        f"--coordinator={coordinator or 'HOST:PORT'} where process 0 can be reached"
    )
    os._exit(output.report_error(error))


@contextmanager
def exit_immediately_on_failure() -> Iterator[None]:
    """Exits immediately if this process fails and other processes take part.

    A normal exit would block for minutes: JAX waits for the other processes, which wait
    for this one.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        code = output.report_error(error)
        if sys.stdout is not None:  # None if the shell closed it
            sys.stdout.flush()
        os._exit(code)


def disconnect() -> None:
    """Waits for the other processes, as the end of a connected process would.

    A command that listens for signals calls it last: at the end of the process the
    signals would end it with another exit code.
    """
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def _in_cluster() -> bool:
    hosts = max(len(os.environ.get(name, "").split(",")) for name in _TPU_HOSTS)
    return max(launcher_task().tasks, hosts) > 1


def _check_connection(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"--coordinator={coordinator} is not HOST:PORT; write, for example, "
            "--coordinator=10.0.0.1:1234"
        )
    if not 0 <= process_id < num_processes:
        raise UsageError(
            f"--process_id={process_id} must be one of 0 to {num_processes - 1} with "
            f"--num_processes={num_processes}"
        )
    if process_id == 0:
        _check_port(coordinator, int(port))


def _check_port(coordinator: str, port: int) -> None:
    """Raises an error if the port is in use, because JAX may crash then."""
    has_ipv6 = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_ipv6 else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=has_ipv6).close()
    except OSError as error:
        raise UsageError(
            f"--coordinator={coordinator}: process 0 cannot listen on port {port} "
            f"({error.strerror}); choose another port"
        ) from error


def is_first_process() -> bool:
    """Returns whether this process is process 0, which writes the run's folder."""
    return jax.process_index() == 0


def print_once(text: str, *, write: Callable[[str], None] = print) -> None:
    """Prints a line in the first process only.

    Args:
      text: the text.
      write: function that prints it.
    """
    if is_first_process():
        output.print_line(text, write=write)


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is true in any process; must be called by all of them."""
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def gather(text: str) -> list[str]:
    """Returns the texts of all processes; must be called by all of them."""
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(data)])).reshape(-1)
    padded = np.pad(data, (0, int(lengths.max()) - len(data)))
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows of all processes, one process after the other.

    Must be called by all of them. The bytes stay the same, whatever the type.

    Args:
      rows: rows of this process, shape (n, ...); n may differ between the processes.
    """
    count = jax.process_count()
    if count == 1:
        return rows
    lengths = multihost_utils.process_allgather(np.array([len(rows)])).reshape(-1)
    found = np.empty((int(lengths.sum()), *rows.shape[1:]), rows.dtype)
    ends = np.cumsum(lengths)
    size = found[:1].nbytes if len(found) else 1
    at_once = max(1, _GATHERED_BYTES // (count * size))
    for first in range(0, int(lengths.max()), at_once):
        part = np.ascontiguousarray(rows[first : first + at_once])
        sent = np.zeros(at_once * size, np.uint8)
        sent[: part.nbytes] = part.reshape(-1).view(np.uint8)
        received = multihost_utils.process_allgather(sent).reshape(count, -1)
        for data, length, end in zip(received, lengths, ends, strict=True):
            start = int(end - length) + first
            stop = min(start + at_once, int(end))
            if start < stop:
                values = data[: (stop - start) * size].view(rows.dtype)
                found[start:stop] = values.reshape(-1, *rows.shape[1:])
    return found


def add(values: np.ndarray) -> np.ndarray:
    """Returns the sum of an array over all processes; must be called by all of them."""
    return gather_rows(np.asarray(values)[None]).sum(axis=0)


def in_first_process(action: Callable[[], object]) -> None:
    """Calls `action` in the first process while the others wait.

    Raises:
      UsageError: in every process, if `action` raises one in the first.
    """
    message = ""
    if is_first_process():
        try:
            action()
        except UsageError as error:
            message = output.with_shown_names(str(error))
    if message := gather(message)[0]:
        raise UsageError(message)


def process_part() -> tuple[int, int]:
    """Returns the index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()
