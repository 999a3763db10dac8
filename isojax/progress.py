"""Progress of long computations, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tqdm import tqdm

from isojax.output import is_terminal, print_line

Advance = Callable[[int], object]

_DELAY = 1.0  # seconds; shorter phases show no bar
_UNWRITABLE = (OSError, ValueError)  # a terminal or file that was closed


class Progress(NamedTuple):
    """Reports the phases of a computation.

    On a terminal, a bar shows the progress and the remaining time of a phase, until it
    ends. Elsewhere, a phase prints one line when it starts.

    Attributes:
      shown: whether anything is reported.
      subject: the prefix of the descriptions of phases, such as "random encoder".
    """

    shown: bool = False
    subject: str = ""

    def about(self, subject: str) -> "Progress":
        """Returns a copy with another subject."""
        return self._replace(subject=subject)

    @contextmanager
    def phase(self, description: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Opens a context that reports one phase.

        Args:
          description: the description of the phase.
          total: the number of units of work.
          unit: the plural name of a unit, such as "images".

        Yields:
          A function that takes the number of units done since the last call.
        """
        text = f"{self.subject}: {description}" if self.subject else description
        if not self.shown or sys.stderr is None:
            yield lambda done: None
            return
        if not is_terminal(sys.stderr):
            print_line(f"{text} ({total:,} {unit}) ...", stream=sys.stderr)
            yield lambda done: None
            return
        bar = tqdm(
            desc=text,
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            delay=_DELAY,
            miniters=0,  # redrawn by time, also when called with 0 units
        )

        def advance(done: int) -> None:
            with suppress(*_UNWRITABLE):
                bar.update(done)

        try:
            yield advance
        finally:
            with suppress(*_UNWRITABLE):
                bar.close()


SILENT = Progress()


def image_bar(
    description: str | None = None,
    *,
    total: int,
    initial: int = 0,
    delay: float = 0.0,
    shown: bool = True,
) -> tqdm:
    """Returns a bar of images, which is drawn only if standard error is a terminal.

    Args:
      description: text before the bar.
      total: number of images.
      initial: number of images done before.
      delay: seconds before the bar appears.
      shown: False for no bar at all, such as in all processes but the first.
    """
    return tqdm(
        desc=description,
        total=total,
        initial=initial,
        unit=" images",
        unit_scale=True,
        dynamic_ncols=True,
        delay=delay,
        disable=not (is_terminal(sys.stderr) and shown),
    )
