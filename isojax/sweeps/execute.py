"""Runs the unfinished runs of a sweep, one process after another."""

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.output import print_line
from isojax.runs.mirror import refresh
from isojax.stopping import STOPPED_EXIT_CODE, SignalForwarder
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import (
    COLLAPSED,
    CRASHED,
    DIVERGED,
    FINISHED,
    UNFINISHED,
    Row,
    part_done,
    read_row,
)
from isojax.sweeps.run_log import output_path, read_log_entry, write_log_entry
from isojax.sweeps.status_line import StatusLine, in_words, seconds_left

_POLL_SECONDS = 0.5
_USAGE_EXIT_CODE = 2


def execute(
    directory: Path,
    configs: dict[SweepRun, ConfigDict],
    command: Callable[[SweepRun], list[str]],
    *,
    retry: bool,
    signals: SignalForwarder,
    after_each: Callable[[], object],
) -> bool:
    """Runs the runs that have not ended.

    If a run crashes, its error is logged and the next run starts. An error that the
    user can fix, such as a missing data set, ends the sweep, because it would end the
    other runs too.

    Args:
      directory: the sweep's folder.
      configs: the config of each run, in the order in which they run.
      command: returns the command that trains and evaluates a run.
      retry: whether runs that crashed or diverged are run again.
      signals: passes signals to the current run; after one, the run saves its state
        and the sweep ends.
      after_each: called after each run.

    Returns:
      Whether all runs have ended.

    Raises:
      UsageError: the error of a run that the user can fix.
    """
    waiting = [
        run for run in configs if not _has_ended(read_row(directory, run), retry)
    ]
    runs = list(configs)
    print_line(
        f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished, in {directory}"
    )
    for position, run in enumerate(waiting):
        if signals.is_stopping:
            return False
        rows = [read_row(directory, other) for other in configs]
        describe = partial(
            _describe_progress,
            f"run {runs.index(run) + 1} of {len(runs)}",
            run,
            known=[row.seconds for row in rows if row.linear and row.seconds],
            waiting=len(waiting) - position - 1,
        )
        code = _attempt(
            directory,
            run,
            command(run),
            config=configs[run],
            signals=signals,
            describe=describe,
        )
        refresh(directory, run.name)
        row = read_row(directory, run)
        if row.status == UNFINISHED:
            # The sweep was stopped, or a signal was sent to the run alone.
            if signals.is_stopping or code == STOPPED_EXIT_CODE:
                return False
            message = _error_message(directory, run, code)
            if code == _USAGE_EXIT_CODE:
                raise UsageError(message.removeprefix("error: "))
            entry = read_log_entry(directory, run)
            write_log_entry(directory, run, entry | {"crashed": message})
            row = read_row(directory, run)
        print_line(f"  {_describe_end(row, directory, run)}")
        after_each()
    return True


def _attempt(
    directory: Path,
    run: SweepRun,
    command: list[str],
    *,
    config: ConfigDict,
    signals: SignalForwarder,
    describe: Callable[..., str],
) -> int:
    """Starts a run, waits for it and returns its exit code."""
    entry = read_log_entry(directory, run)
    entry.pop("crashed", None)
    spent, start = entry.get("seconds", 0.0), time.monotonic()

    def save_seconds() -> None:
        seconds = spent + time.monotonic() - start
        write_log_entry(directory, run, entry | {"seconds": seconds})

    save_seconds()
    before = last_part = part_done(directory, run, config)
    line, is_stopping = StatusLine(), False
    with output_path(directory, run).open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end stops the run; see sweep_worker.py
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # otherwise Ctrl-C in the terminal would reach it twice
        )
    signals.add(process)
    while process.poll() is None:
        elapsed, part = time.monotonic() - start, part_done(directory, run, config)
        if part != last_part:  # saved often, in case the sweep is killed
            last_part = part
            save_seconds()
        if signals.is_stopping:
            if not is_stopping:
                line.end()
                is_stopping = True
            line.show("Saving and stopping the run; press Ctrl-C again to kill it.")
        else:
            line.show(describe(elapsed, part, part - before))
        time.sleep(_POLL_SECONDS)
    assert process.stdin is not None  # a pipe was asked for
    process.stdin.close()
    line.end()
    save_seconds()
    return process.returncode


def _describe_progress(
    label: str,
    run: SweepRun,
    elapsed: float,
    part_done: float,
    part_gained: float,
    *,
    known: list[float],
    waiting: int,
) -> str:
    """Returns the status line while a run is active."""
    left = seconds_left(
        known,
        waiting=waiting,
        part_done=part_done,
        part_gained=part_gained,
        elapsed=elapsed,
    )
    when = "" if left is None else f", {in_words(left)} remaining"
    return f"{label}{when}: {run.title}"


def _has_ended(row: Row, retry: bool) -> bool:
    if row.status in (CRASHED, DIVERGED):
        return not retry
    return row.status in (FINISHED, COLLAPSED)


def _error_message(directory: Path, run: SweepRun, code: int) -> str:
    """Returns the last line of a failed run's output."""
    if code < 0:
        return f"killed by signal {-code}"
    lines = output_path(directory, run).read_text(errors="replace").splitlines()
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1] if printed else f"exit code {code}"


def _describe_end(row: Row, directory: Path, run: SweepRun) -> str:
    """Returns the line that is printed when a run has ended."""
    if row.status == CRASHED:
        message = read_log_entry(directory, run)["crashed"]
        return f"crashed ({message}); its output is in {output_path(directory, run)}"
    if row.linear is None:
        return f"{row.status}; its output is in {output_path(directory, run)}"
    return (
        f"{row.status}: linear {row.linear:.3f}, 20-NN {row.knn_20:.3f}, participation "
        f"ratio {row.participation_ratio:.1f}, {row.seconds:.0f} s"
    )
