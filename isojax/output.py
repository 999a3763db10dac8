"""Standard output and standard error: closed pipes, full disks, unwanted messages."""

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


def quiet_tensorflow() -> None:
    """Hides the warnings that TensorFlow's C++ code prints to standard error.

    A level of 0 set by the user is kept. Must be called before TensorFlow is imported,
    which reads these variables once.
    """
    # JAX sets the level to 1 when it is imported; 2 leaves errors.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # prints a notice when it is on
