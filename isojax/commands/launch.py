"""Trains or evaluates with several processes on this machine.

    isojax launch --processes 2 -- train [flags of train]
    isojax launch --processes 2 -- evaluate [flags of evaluate]

Prints the output of process 0, and that of another process only if it fails. The exit
code is that of the command, such as 75 if a signal stopped it and its state is saved.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import IO

from isojax.commands.exit_codes import or_exit
from isojax.commands.help import wrap_usage
from isojax.launchers import LOCAL_DEVICES, divide_gpus, visible_gpus
from isojax.output import print_line
from isojax.stopping import STOPPED_EXIT_CODE, SignalForwarder

_COMMANDS = ("train", "evaluate")  # of isojax that take the flags of processes
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5  # for other processes to report their error after one has failed
_TERMINATE_SECONDS = 30  # from SIGTERM to SIGKILL
_SHOWN_LINES = 20


def run() -> None:
    """Runs the command line in `sys.argv`."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0],
        usage=wrap_usage(f"{sys.argv[0]} --processes N -- command [flags ...]"),
        description=__doc__.splitlines()[0],
        epilog="The exit code is that of the command, such as 75 if a signal stopped "
        "it and its state is saved.",
    )
    parser.add_argument(
        "--processes",
        type=int,
        required=True,
        metavar="N",
        help="number of processes",
    )
    parser.add_argument(
        "command",
        nargs="+",
        help="after --: train, evaluate, or the path of a Python script, followed by "
        "its flags",
    )
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error(f"--processes={arguments.processes}: set it above 0")
    start = partial(launch, processes=arguments.processes)
    sys.exit(or_exit(start, arguments.command))


def launch(command: list[str], *, processes: int) -> int:
    """Starts a command in several processes that work together, and waits for them.

    The first stop signal is passed to every process: SIGINT unchanged, all others as
    SIGTERM. An urgent second signal kills all processes; see `isojax.stopping`. If one
    process fails, the others are terminated. The processes divide the visible GPUs.

    Args:
      command: a name in `_COMMANDS` or the path of a Python script, then its flags;
        `--coordinator`, `--num_processes` and `--process_id` are added.
      processes: the number of processes.

    Returns:
      0 if every process finished; `STOPPED_EXIT_CODE` if any was stopped and none
      failed; otherwise the exit code of the process that failed first, which is 128 + N
      for signal N, as in a shell.

    Raises:
      UsageError: if the processes cannot divide the GPUs.
    """
    gpus = visible_gpus()
    shares = divide_gpus(gpus, processes) if gpus else None
    if command[0] in _COMMANDS:
        command = ["-m", "isojax", *command]
    coordinator = f"127.0.0.1:{_free_port()}"
    outputs: list[IO[str] | None] = [None]
    outputs += [
        tempfile.TemporaryFile("w+", errors="replace") for _ in range(processes - 1)
    ]
    started: list[subprocess.Popen] = []
    with SignalForwarder() as signals:
        try:
            for number, output in enumerate(outputs):
                if signals.is_stopping:
                    break
                process = subprocess.Popen(
                    [
                        sys.executable,
                        *command,
                        f"--coordinator={coordinator}",
                        f"--num_processes={processes}",
                        f"--process_id={number}",
                    ],
                    stdout=output,
                    stderr=None if output is None else subprocess.STDOUT,
                    env=os.environ | _local_devices(shares, number),
                    # The terminal's Ctrl-C would reach it a second time.
                    process_group=0,
                )
                started.append(process)
                signals.add(process)
            return _wait_for_all(started, outputs, signals)
        finally:
            _end(started)


def _wait_for_all(
    started: list[subprocess.Popen],
    outputs: list[IO[str] | None],
    signals: SignalForwarder,
) -> int:
    """Waits until the processes have ended or one has failed; returns the exit code."""
    failed = _wait_for_failure(started)
    if failed is None:
        codes = {process.returncode for process in started}
        return STOPPED_EXIT_CODE if STOPPED_EXIT_CODE in codes else 0
    code = started[failed].returncode
    _await(started, _TERMINATE_SECONDS if signals.is_stopping else _GRACE_SECONDS)
    output = outputs[failed]
    # Process 0 has printed an error that all processes share.
    if output is not None and not signals.is_stopping and started[0].poll() != code:
        _show(failed, output)
    return code if code > 0 else 128 - code


def _local_devices(shares: list[list[int]] | None, number: int) -> dict[str, str]:
    """Returns the environment variable that gives a process its share of the GPUs."""
    if shares is None:
        return {}
    return {LOCAL_DEVICES: ",".join(map(str, shares[number]))}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for_failure(started: list[subprocess.Popen]) -> int | None:
    """Waits until all have ended or one has failed; returns the one that failed."""
    while True:
        codes = [process.poll() for process in started]
        for number, code in enumerate(codes):
            if code not in (None, 0, STOPPED_EXIT_CODE):
                return number
        if None not in codes:
            return None
        time.sleep(_POLL_SECONDS)


def _await(started: list[subprocess.Popen], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(p.poll() is None for p in started) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _end(started: list[subprocess.Popen]) -> None:
    for send in (subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in started:
            send(process)
        _await(started, _TERMINATE_SECONDS)


def _show(number: int, output: IO[str]) -> None:
    output.seek(0)
    for line in output.read().splitlines()[-_SHOWN_LINES:]:
        print_line(f"[process {number}] {line}", stream=sys.stderr)
