"""The status line of a sweep, and the estimate of its remaining time."""

import sys
from collections.abc import Sequence
from functools import partial

from isojax.output import is_terminal, print_line

_MINUTES_UP_TO = 90  # longer durations are written in hours


def seconds_left(
    known: Sequence[float],
    *,
    waiting: int,
    part_done: float = 0.0,
    part_gained: float = 0.0,
    elapsed: float = 0.0,
) -> float | None:
    """Estimates the remaining seconds of a sweep.

    Args:
      known: the seconds of each finished run.
      waiting: the number of runs after the current one.
      part_done: the finished fraction of the current run, from 0 to 1.
      part_gained: the fraction of the current run that was done since it last started.
      elapsed: the seconds since then.

    Returns:
      The estimate, or None if nothing is known yet.
    """
    whole = elapsed / part_gained if part_gained > 0 else None
    usual = sum(known) / len(known) if known else whole
    if usual is None:
        return None
    present = usual if whole is None else whole
    return usual * waiting + present * (1 - part_done)


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
    """A line that a terminal rewrites; elsewhere only its first text is printed."""

    def __init__(self):
        """Creates an empty line."""
        self._is_terminal = is_terminal(sys.stdout)
        self._shown = ""

    def show(self, text: str) -> None:
        """Replaces the shown text."""
        if self._is_terminal and text != self._shown:
            print_line(
                f"\r{text.ljust(len(self._shown))}", write=partial(print, end="")
            )
            self._shown = text
        elif not self._shown:
            print_line(text)
            self._shown = text

    def end(self) -> None:
        """Ends the line; later text starts on a new one."""
        if self._is_terminal and self._shown:
            print_line("")
        self._shown = ""
