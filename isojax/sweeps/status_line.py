"""The status line of a sweep, and the estimate of its remaining time."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from isojax.output import is_terminal, print_line

_MINUTES_UP_TO = 90  # longer durations are written in hours


class Progress(NamedTuple):
    """How far an active run is.

    Attributes:
      part_done: the finished fraction of the run, from 0 to 1.
      part_gained: the fraction that was done since the run last started.
      elapsed: the seconds since then.
    """

    part_done: float = 0.0
    part_gained: float = 0.0
    elapsed: float = 0.0

    @property
    def whole(self) -> float | None:
        """The seconds of the whole run at its present speed; None if unknown."""
        return self.elapsed / self.part_gained if self.part_gained > 0 else None


def seconds_left(
    known: Sequence[float],
    *,
    waiting: int,
    active: Sequence[Progress] = (),
    jobs: int = 1,
) -> float | None:
    """Estimates the remaining seconds of a sweep.

    Args:
      known: the seconds of each finished run.
      waiting: the number of runs that have not started.
      active: how far each active run is.
      jobs: the number of runs at a time.

    Returns:
      The estimate, or None if nothing is known yet.
    """
    times = list(known) or [run.whole for run in active if run.whole is not None]
    if not times:
        return None
    usual = sum(times) / len(times)
    present = [
        (usual if run.whole is None else run.whole) * (1 - run.part_done)
        for run in active
    ]
    return max([(usual * waiting + sum(present)) / jobs, *present])


def in_words(seconds: float) -> str:
    """Describes a duration in words.

    Args:
      seconds: the duration, at least 0.
    """
    if seconds < 50:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes <= 1:
        return "about a minute"
    if minutes <= _MINUTES_UP_TO:
        return f"about {minutes} minutes"
    return f"about {seconds / 3600:.1f} hours"


class StatusLine:
    """A line at the end of a terminal's output that is rewritten.

    Output to a file has no such line.
    """

    def __init__(self) -> None:
        """Creates an empty line."""
        self._is_terminal = is_terminal(sys.stdout)
        self._shown = ""

    def show(self, text: str) -> None:
        """Replaces the shown text."""
        if self._is_terminal and text != self._shown:
            padded = text.ljust(len(self._shown))
            print_line(f"\r{padded}", write=partial(print, end=""))
            self._shown = text

    def clear(self) -> None:
        """Removes the shown text."""
        if self._shown:
            self.show("")
            print_line("\r", write=partial(print, end=""))

    def print_above(self, text: str) -> None:
        """Prints a line that stays, in place of the shown text."""
        self.clear()
        print_line(text)
