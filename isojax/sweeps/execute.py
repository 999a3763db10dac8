"""Runs the unfinished runs of a sweep, each in a process of its own."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.output import print_line
from isojax.runs.lock import InUseError
from isojax.runs.mirror import refresh, upload
from isojax.stopping import STOPPED_EXIT_CODE, SignalForwarder
from isojax.sweeps.attempt import Attempt
from isojax.sweeps.claims import claim_run
from isojax.sweeps.job_devices import JobDevices
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import (
    COLLAPSED,
    CRASHED,
    DIVERGED,
    FINISHED,
    UNFINISHED,
    Row,
    read_row,
)
from isojax.sweeps.run_log import (
    RECORDS_FOLDER,
    output_path,
    read_log_entry,
    write_log_entry,
)
from isojax.sweeps.status_line import StatusLine, in_words, seconds_left

_POLL_SECONDS = 0.5
# How often to look again for runs that other processes may have left.
_LOOK_SECONDS, _IDLE_LOOK_SECONDS = 60, 10
# Without runs of its own, a sweep looks for longer than a process that has ended can
# hold a lease or the lock of a network file system.
_IDLE_SECONDS = 100
_USAGE_EXIT_CODE = 2


class Outcome(NamedTuple):
    """How a sweep has ended.

    Attributes:
      is_stopped: whether a signal stopped it, or one of its runs, before the end.
      elsewhere: for each run that another process is working on, that process.
    """

    is_stopped: bool
    elsewhere: dict[SweepRun, str]


class Executor:
    """Runs the runs that have not ended, several at a time.

    If a run crashes, its error is logged and the other runs continue. After an error
    that the user can fix, such as a missing data set, no further run starts, because
    it would end the other runs too. Runs that another process has claimed are left to
    it, and looked at again in case that process ends.
    """

    def __init__(
        self,
        directory: Path,
        configs: dict[SweepRun, ConfigDict],
        command: Callable[[SweepRun], list[str]],
        *,
        devices: Sequence[JobDevices],
        retry: bool,
        signals: SignalForwarder,
        after_each: Callable[[], object],
    ):
        """Finds the runs that have not ended.

        Args:
          directory: the sweep's folder.
          configs: the config of each run, in the order in which they start.
          command: returns the command that trains and evaluates a run.
          devices: the devices of each run at a time.
          retry: whether runs that crashed or diverged are run again, once.
          signals: passes signals to the active runs; after one, they save their state
            and the sweep ends.
          after_each: called after each run.
        """
        self._directory, self._configs, self._command = directory, configs, command
        self._signals, self._after_each = signals, after_each
        self._jobs, self._free = len(devices), list(devices)
        rows = {run: read_row(directory, run) for run in configs}
        # Another process may repeat a failed run first: the seconds of its entry then
        # change. Those of its row are rounded.
        self._failed = {
            run: read_log_entry(directory, run)
            for run, row in rows.items()
            if retry and row.status in (CRASHED, DIVERGED)
        }
        self._known = [r.seconds for r in rows.values() if r.linear and r.seconds]
        self._waiting = [run for run in configs if not self._has_ended(run, rows[run])]
        self._active: list[Attempt] = []
        self._elsewhere: dict[SweepRun, str] = {}
        self._is_stopped = False
        self._error: UsageError | None = None
        self._line = StatusLine()

    def run(self) -> Outcome:
        """Runs the runs.

        Raises:
          UsageError: the error of a run that the user can fix.
        """
        total, waiting = len(self._configs), len(self._waiting)
        print_line(
            f"{total} runs, {total - waiting} of them finished, in {self._directory}"
        )
        try:
            self._run_all()
        finally:
            self._line.clear()
            for attempt in self._active:
                attempt.release()
        if self._error is not None:
            raise self._error
        is_stopped = self._is_stopped or (
            self._signals.is_stopping and bool(self._waiting)
        )
        return Outcome(is_stopped, self._elsewhere)

    def _run_all(self) -> None:
        next_look, idle_since, is_stopping = 0.0, None, False
        while True:
            if self._may_start() and time.monotonic() >= next_look:
                self._start_waiting()
                wait = _LOOK_SECONDS if self._active else _IDLE_LOOK_SECONDS
                next_look = time.monotonic() + wait
            if self._active:
                idle_since = None
            elif not self._may_start():
                return
            elif idle_since is None:
                idle_since = time.monotonic()
                self._line.print_above(
                    f"Waiting up to {_IDLE_SECONDS} s for the runs of other processes: "
                    f"{describe_elsewhere(self._elsewhere)}"
                )
            elif time.monotonic() > idle_since + _IDLE_SECONDS:
                return
            if self._active and self._signals.is_stopping and not is_stopping:
                is_stopping = True
                runs = "the run" if len(self._active) == 1 else "the runs"
                self._line.print_above(
                    f"Saving and stopping {runs}; press Ctrl-C again to kill."
                )
            self._line.show(self._describe_progress())
            time.sleep(_POLL_SECONDS)
            for attempt in [a for a in self._active if a.has_ended()]:
                self._active.remove(attempt)
                self._free.append(attempt.devices)
                try:
                    self._record_end(attempt)
                finally:
                    attempt.release()
                next_look = 0.0

    def _may_start(self) -> bool:
        has_ended = self._is_stopped or self._signals.is_stopping or self._error
        return bool(self._waiting and self._free and not has_ended)

    def _start_waiting(self) -> None:
        for run in list(self._waiting):
            if not self._may_start():
                return
            self._start(run)

    def _start(self, run: SweepRun) -> None:
        """Starts a run, unless it has ended or another process has claimed it."""
        with ExitStack() as held:
            try:
                held.enter_context(
                    claim_run(self._directory, run, on_loss=lambda: self._lose(run))
                )
            except InUseError as error:
                owner = error.owner
                self._elsewhere[run] = (
                    f"process {owner.get('process', '?')} on {owner.get('host', '?')}"
                )
                return
            # Now that no other process can change them.
            upload(self._directory)
            for part in (RECORDS_FOLDER, run.name):
                refresh(self._directory, part)
            self._elsewhere.pop(run, None)
            self._waiting.remove(run)
            if self._has_ended(run, read_row(self._directory, run)):
                return
            attempt = Attempt(
                self._directory,
                run,
                self._command(run),
                config=self._configs[run],
                devices=self._free.pop(0),
                claim=held.pop_all(),
            )
        self._active.append(attempt)
        self._signals.add(attempt.process)
        number = list(self._configs).index(run) + 1
        left = self._seconds_left()
        when = "" if left is None else f", {in_words(left)} remaining"
        self._line.print_above(
            f"run {number} of {len(self._configs)}{when}: {run.title}"
        )

    def _lose(self, run: SweepRun) -> None:
        for attempt in self._active:
            if attempt.run == run:
                attempt.lose()

    def _record_end(self, attempt: Attempt) -> None:
        """Records how a run has ended."""
        directory, run = self._directory, attempt.run
        code = attempt.process.returncode
        refresh(directory, run.name)
        row = read_row(directory, run)
        if attempt.is_lost:
            self._waiting.append(run)
            self._line.print_above(f"  {run.name}: taken over by another process")
        elif row.status == UNFINISHED and (
            # The sweep was stopped, or a signal was sent to the run alone.
            self._signals.is_stopping or code == STOPPED_EXIT_CODE
        ):
            self._is_stopped = True
        elif row.status == UNFINISHED and code == _USAGE_EXIT_CODE:
            message = _error_message(directory, run, code).removeprefix("error: ")
            self._error = self._error or UsageError(message)
            if self._active:
                self._line.print_above(
                    f"  {run.name}: {message}. No further run starts."
                )
        else:
            if row.status == UNFINISHED:
                message = _error_message(directory, run, code)
                entry = read_log_entry(directory, run)
                write_log_entry(directory, run, entry | {"crashed": message})
                row = read_row(directory, run)
            if row.linear and row.seconds:
                self._known.append(row.seconds)
            self._line.print_above(f"  {run.name} {_describe_end(row, directory, run)}")
            self._after_each()

    def _has_ended(self, run: SweepRun, row: Row) -> bool:
        if row.status in (CRASHED, DIVERGED):
            return read_log_entry(self._directory, run) != self._failed.get(run)
        return row.status in (FINISHED, COLLAPSED)

    def _seconds_left(self) -> float | None:
        return seconds_left(
            self._known,
            waiting=len(self._waiting) - len(self._elsewhere),
            active=[attempt.progress() for attempt in self._active],
            jobs=self._jobs,
        )

    def _describe_progress(self) -> str:
        """Returns the status line."""
        left = self._seconds_left()
        when = "" if left is None else f", {in_words(left)} remaining"
        return f"{len(self._active)} active, {len(self._waiting)} waiting{when}"


def describe_elsewhere(elsewhere: dict[SweepRun, str]) -> str:
    """Lists the runs of other processes."""
    return ", ".join(f"{run.name} ({owner})" for run, owner in elsewhere.items())


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
