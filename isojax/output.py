"""Standard output whose reader has gone, such as that of `... | head`."""

import os
import sys
from collections.abc import Callable


def say(text: str, *, write: Callable[[str], object] = print) -> None:
    """Prints a line of a run, which goes on where nobody reads it or its disk is full.

    Args:
      text: to print.
      write: that prints it to standard output.
    """
    if sys.stdout is None:  # the shell has closed it
        return
    try:
        write(text)
        sys.stdout.flush()
    except OSError:
        silence_output()


def silence_output() -> None:
    """Sends standard output nowhere from now on, after it could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # Beneath Python's own file, which would fail once more at its end.
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
