"""Starts several processes of one training on this machine.

    python -m isojax.launch --processes 2 -- train.py [flags of train.py]

Process 0 shows its output. The others' is shown only where one of them fails.
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

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5  # for the others to tell their own error, once one has failed
_TERMINATE_SECONDS = 30  # from SIGTERM to SIGKILL
_SHOWN_LINES = 20


def main() -> None:
    """Runs what the command line says and exits with its code."""
    parser = argparse.ArgumentParser(
        prog="python -m isojax.launch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument("command", nargs="+", help="after --: a script and its flags")
    arguments = parser.parse_args()
    if arguments.processes < 1:
        parser.error(f"--processes={arguments.processes}: set it above 0")
    sys.exit(launch(arguments.command, processes=arguments.processes))


def launch(command: list[str], *, processes: int) -> int:
    """Starts a script in several processes that find each other, and waits for them.

    SIGINT and SIGTERM are handed on, and a terminal that closes as SIGTERM; a second
    signal ends all at once. Where one process fails the others are ended too.

    Args:
      command: a Python script and its flags; `--coordinator`, `--num_processes` and
        `--process_id` are added.
      processes: how many.

    Returns:
      0, or the exit code of the process that failed first; 128 and its number for a
      signal, as a shell does.
    """
    coordinator = f"127.0.0.1:{_free_port()}"
    outputs: list[IO[str] | None] = [None]
    outputs += [
        tempfile.TemporaryFile("w+", errors="replace") for _ in range(processes - 1)
    ]
    started: list[subprocess.Popen] = []
    signals = _hand_on_signals(started)  # before there is a process to leave behind
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
            return 0
        code = started[failed].returncode
        _await(started, _TERMINATE_SECONDS if signals else _GRACE_SECONDS)
        # A mistake that all make is told once, by process 0.
        if failed > 0 and not signals and started[0].poll() != code:
            _show(failed, outputs[failed])
    finally:
        _end(started)
    return code if code > 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _hand_on_signals(started: list[subprocess.Popen]) -> list[int]:
    """Sends signals on to the processes; returns the list of those that came."""
    came: list[int] = []

    def hand_on(number, _):
        came.append(number)
        number = signal.SIGTERM if number == signal.SIGHUP else number
        for process in started:
            process.send_signal(number if len(came) == 1 else signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_on)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, hand_on)
    return came


def _wait(started: list[subprocess.Popen]) -> int | None:
    """Waits until all have ended well or one has failed; returns which."""
    while True:
        codes = [process.poll() for process in started]
        for number, code in enumerate(codes):
            if code:
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


if __name__ == "__main__":
    main()
