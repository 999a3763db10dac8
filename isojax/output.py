"""Standard output whose reader has gone, such as that of `... | head`."""

import os
import sys


def silence_output() -> None:
    """Sends standard output nowhere from now on, after a `BrokenPipeError`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # Beneath Python's own file, which would fail once more at its end.
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
