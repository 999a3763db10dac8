"""Printing and optional work that never end a run, and one-line error messages."""

import codecs
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isojax.errors import UsageError

_USAGE_EXIT_CODE = 2
# Error handler for characters that the encoding of an output lacks.
_LOOKALIKES = "isojax_lookalikes"
# Names to show instead of temporary folders.
_shown_names: dict[str, str] = {}
_IN_ASCII = {"±": "+-", "–": "-", "×": "x", "…": "...", "µ": "u", "τ": "tau"}


def _replace_by_lookalikes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c, "?") for c in characters), error.end


codecs.register_error(_LOOKALIKES, _replace_by_lookalikes)


def accept_all_characters() -> None:
    """Makes standard output replace characters that its encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_LOOKALIKES)


@contextmanager
def show_as(folder: str, name: str) -> Iterator[None]:
    """Shows a name instead of a temporary folder in messages.

    Args:
      folder: path of the temporary folder.
      name: what the user calls it, such as the URL whose files it contains.
    """
    _shown_names[folder] = name
    try:
        yield
    finally:
        del _shown_names[folder]


def with_shown_names(text: str) -> str:
    """Replaces temporary folders in a text by the names of `show_as`."""
    for folder, name in _shown_names.items():
        text = text.replace(folder, name)
    return text


def print_line(
    text: str, *, write: Callable[..., object] = print, stream: TextIO | None = None
) -> None:
    """Prints a line, and does not raise if the output cannot be written.

    If a line cannot be written, for instance because the reader of a pipe has exited or
    the disk is full, all further output is discarded.

    Args:
      text: the line; characters that the encoding lacks are replaced.
      write: the function that prints, called as `write(text, file=stream)`.
      stream: the stream; by default standard output.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None:  # the shell closed it
        return
    try:
        text = with_shown_names(text)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        write(text.encode(encoding, _LOOKALIKES).decode(encoding), file=stream)
        stream.flush()
    except Exception:
        discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Discards all further output of a stream, after a write has failed."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        # Replaces the descriptor: Python's own buffer would fail again at exit.
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # closed, or without a descriptor
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is stream:
                setattr(sys, name, open(os.devnull, "w"))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is an open terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def run_optional(
    action: Callable[[], object],
    *,
    failure: str,
    write: Callable[..., object] = print,
) -> bool:
    """Runs optional work, and prints a one-line warning if it fails.

    Figures, reports and metric writers are optional: a run or an evaluation continues
    without them. Only `Exception` is caught; Ctrl-C and `SystemExit` are not.

    Args:
      action: the work.
      failure: what is missing as a result, a sentence without the final period.
      write: the function that prints, as in `print_line`.

    Returns:
      Whether the work succeeded.
    """
    try:
        action()
    except Exception as error:
        print_line(f"Warning: {failure} ({describe_error(error)}).", write=write)
        return False
    return True


def report_error(error: BaseException) -> int:
    """Prints an error to standard error: a traceback, or one line for a `UsageError`.

    Returns:
      The exit code of the process: 2 for a `UsageError`, otherwise 1.
    """
    if isinstance(error, UsageError):
        print_line(f"error: {error}", stream=sys.stderr)
        return _USAGE_EXIT_CODE
    traceback.print_exception(error)
    return 1


def describe_error(error: Exception) -> str:
    """Describes an exception in one line: its type, message and source location.

    For a `UsageError` only the message is returned, which is written for users.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else "no message"
    if isinstance(error, UsageError):
        return message
    place = ""
    if frames := traceback.extract_tb(error.__traceback__):
        path = Path(frames[-1].filename)
        place = f", {path.parent.name}/{path.name}:{frames[-1].lineno}"
    return f"{type(error).__name__}: {message}{place}"


def quiet_tensorflow() -> None:
    """Hides the warnings that TensorFlow's C++ code prints to standard error.

    A level of 0 that the user has set is kept. Must be called before TensorFlow is
    imported, which reads these variables once.
    """
    # JAX sets the level to 1 when it is imported; level 2 shows errors only.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it would print a notice
