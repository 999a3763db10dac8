"""Runs what is missing of a sweep, one process after another."""

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.output import say
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
    """Runs what is not over yet.

    A run that crashes is recorded, and the next one starts. A mistake that the user can
    mend, such as a data set that is not there, ends the sweep instead, since it would
    end the other runs as well.

    Args:
      directory: the sweep's folder.
      configs: of each run, in the order in which they run.
      command: gives the command that trains and evaluates a run.
      retry: whether runs that crashed or diverged are tried again.
      signals: after one, the current run saves and the sweep ends.
      after_each: called after each run.

    Returns:
      Whether all runs are over.

    Raises:
      UsageError: with the words of a run that the user can mend.
    """
    waiting = [run for run in configs if not _is_over(read_row(directory, run), retry)]
    runs = list(configs)
    say(
        f"{len(runs)} runs, {len(runs) - len(waiting)} of them done. Everything goes "
        f"to {directory}."
    )
    for position, run in enumerate(waiting):
        if signals.is_stopping:
            return False
        rows = [read_row(directory, other) for other in configs]
        tell = partial(
            _tell,
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
            tell=tell,
        )
        row = read_row(directory, run)
        if row.status == UNFINISHED:
            # Stopped from here, or by a signal to the run alone.
            if signals.is_stopping or code == STOPPED_EXIT_CODE:
                return False
            words = _last_words(directory, run, code)
            if code == _USAGE_EXIT_CODE:
                raise UsageError(words.removeprefix("error: "))
            record = read_log_entry(directory, run)
            write_log_entry(directory, run, record | {"crashed": words})
            row = read_row(directory, run)
        say(f"  {_describe(row, directory, run)}")
        after_each()
    return True


def _attempt(
    directory: Path,
    run: SweepRun,
    command: list[str],
    *,
    config: ConfigDict,
    signals: SignalForwarder,
    tell: Callable[..., str],
) -> int:
    """Starts a run and waits for its end; returns its exit code."""
    record = read_log_entry(directory, run)
    record.pop("crashed", None)
    spent, start = record.get("seconds", 0.0), time.monotonic()

    def save_seconds() -> None:
        seconds = spent + time.monotonic() - start
        write_log_entry(directory, run, record | {"seconds": seconds})

    save_seconds()
    before = last_part = part_done(directory, run, config)
    line, is_stopping = StatusLine(), False
    with output_path(directory, run).open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # at whose end the run ends; see the worker
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # or the terminal's Ctrl-C would reach it twice
        )
    signals.add(process)
    while process.poll() is None:
        elapsed, part = time.monotonic() - start, part_done(directory, run, config)
        if part != last_part:  # so that little is lost where the sweep is killed
            last_part = part
            save_seconds()
        if signals.is_stopping:
            if not is_stopping:
                line.end()
                is_stopping = True
            line.show("Stopping the run, which saves first; Ctrl-C again kills it.")
        else:
            line.show(tell(elapsed, part, part - before))
        time.sleep(_POLL_SECONDS)
    assert process.stdin is not None  # a pipe was asked for
    process.stdin.close()
    line.end()
    save_seconds()
    return process.returncode


def _tell(
    label: str,
    run: SweepRun,
    elapsed: float,
    part_done: float,
    part_gained: float,
    *,
    known: list[float],
    waiting: int,
) -> str:
    """The line while a run is at work."""
    left = seconds_left(
        known,
        waiting=waiting,
        part_done=part_done,
        part_gained=part_gained,
        elapsed=elapsed,
    )
    when = "" if left is None else f", {in_words(left)} left"
    return f"{label}{when}: {run.title}"


def _is_over(row: Row, retry: bool) -> bool:
    if row.status in (CRASHED, DIVERGED):
        return not retry
    return row.status in (FINISHED, COLLAPSED)


def _last_words(directory: Path, run: SweepRun, code: int) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    lines = output_path(directory, run).read_text(errors="replace").splitlines()
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1] if spoken else f"exit code {code}"


def _describe(row: Row, directory: Path, run: SweepRun) -> str:
    """The line that a run's end prints."""
    if row.status == CRASHED:
        words = read_log_entry(directory, run)["crashed"]
        return f"crashed ({words}); its output is {output_path(directory, run)}"
    if row.linear is None:
        return f"{row.status}; its output is {output_path(directory, run)}"
    return (
        f"{row.status}: linear {row.linear:.3f}, 20-NN {row.knn_20:.3f}, participation "
        f"ratio {row.participation_ratio:.1f}, {row.seconds:.0f} s"
    )
