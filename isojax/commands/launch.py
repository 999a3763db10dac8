"""Starts several processes of one training on this machine.

    isojax launch --processes 2 -- train [flags of train]

Shows the output of process 0, and that of another process only if it fails. Exit codes:
those of the script, such as 75 for a run that a signal stopped and that is saved.
"""

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

from isojax.output import say
from isojax.stopping import STOPPED_EXIT_CODE, Repetition, stop_signals

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5  # for the others to report their own error after one has failed
_TERMINATE_SECONDS = 30  # from SIGTERM to SIGKILL
_SHOWN_LINES = 20


def run() -> None:
    """Parses the command line, starts the processes and exits with their code."""
    parser = argparse.ArgumentParser(
        prog=sys.argv[0],
        description=__doc__.splitlines()[0],
        epilog="Exit codes are those of the script, such as 75 for a run that a signal "
        "stopped and that is saved.",
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument(
        "command",
        nargs="+",
        help="after --: train, or the path of a script, and its flags",
    )
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error(f"--processes={arguments.processes}: set it above 0")
    sys.exit(launch(arguments.command, processes=arguments.processes))


def launch(command: list[str], *, processes: int) -> int:
    """Starts a script in several processes that find each other, and waits for them.

    The first of the `stop_signals` is passed to every process: SIGINT as it is, the
    others as SIGTERM. An urgent repetition kills all processes. If one process fails,
    the others are terminated.

    Args:
      command: "train" or the path of a Python script, and its flags; `--coordinator`,
        `--num_processes` and `--process_id` are added.
      processes: the number of processes.

    Returns:
      0 if every process finished; `STOPPED_EXIT_CODE` if any was stopped and none
      failed; otherwise the exit code of the process that failed first, which is 128 + N
      for signal N, as in a shell.
    """
    if command[0] == "train":
        command = ["-m", "isojax", *command]
    coordinator = f"127.0.0.1:{_free_port()}"
    outputs: list[IO[str] | None] = [None]
    outputs += [
        tempfile.TemporaryFile("w+", errors="replace") for _ in range(processes - 1)
    ]
    started: list[subprocess.Popen] = []
    signals = _pass_on_signals(started)  # before there is a process to leave behind
    for number, output in enumerate(outputs):
        if signals:
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
            process_group=0,  # or the terminal's Ctrl-C would reach it a second time
        )
        started.append(process)
    try:
        failed = _wait(started)
        if failed is None:
            codes = {process.returncode for process in started}
            return STOPPED_EXIT_CODE if STOPPED_EXIT_CODE in codes else 0
        code = started[failed].returncode
        _await(started, _TERMINATE_SECONDS if signals else _GRACE_SECONDS)
        # Process 0 has printed an error that all processes share.
        if failed > 0 and not signals and started[0].poll() != code:
            _show(failed, outputs[failed])
    finally:
        _end(started)
    return code if code > 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _pass_on_signals(started: list[subprocess.Popen]) -> list[int]:
    """Passes signals to the processes; returns the list of those received."""
    received: list[int] = []
    repetition = Repetition()

    def pass_on(number, _):
        received.append(number)
        is_urgent = repetition.is_urgent(number)
        if not is_urgent and len(received) > 1:
            return
        sent = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        for process in started:
            process.send_signal(signal.SIGKILL if is_urgent else sent)

    for number in stop_signals():
        signal.signal(number, pass_on)
    return received


def _wait(started: list[subprocess.Popen]) -> int | None:
    """Waits until all have finished or stopped, or one has failed; returns which."""
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
        say(f"[process {number}] {line}", stream=sys.stderr)
