"""Where a sweep stands, and how long it will still take."""

import sys
from collections.abc import Sequence
from functools import partial

from isojax.output import is_terminal, say

_MINUTES_UP_TO = 90  # beyond that hours


def seconds_left(
    known: Sequence[float],
    *,
    waiting: int,
    part_done: float = 0.0,
    part_gained: float = 0.0,
    elapsed: float = 0.0,
) -> float | None:
    """An estimate of the seconds that a sweep still takes.

    Args:
      known: seconds of each finished run.
      waiting: runs after the present one.
      part_done: of the present run, from 0 to 1.
      part_gained: what of it was done since it last started.
      elapsed: seconds since then.

    Returns:
      The estimate, or None as long as there is nothing to go by.
    """
    whole = elapsed / part_gained if part_gained > 0 else None
    usual = sum(known) / len(known) if known else whole
    if usual is None:
        return None
    present = usual if whole is None else whole
    return usual * waiting + present * (1 - part_done)


def in_words(seconds: float) -> str:
    """A duration as one would say it.

    Args:
      seconds: at least 0.
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
    """A line that is rewritten in a terminal; elsewhere only its first text is told."""

    def __init__(self):
        """Shows nothing yet."""
        self._is_terminal = is_terminal(sys.stdout)
        self._shown = ""

    def show(self, text: str) -> None:
        """Shows a text in place of the one before."""
        if self._is_terminal and text != self._shown:
            say(f"\r{text.ljust(len(self._shown))}", write=partial(print, end=""))
            self._shown = text
        elif not self._shown:
            say(text)
            self._shown = text

    def end(self) -> None:
        """Leaves the line as it stands."""
        if self._is_terminal and self._shown:
            say("")
        self._shown = ""
