"""Errors that users can fix, and helpers that raise or quote errors."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """A mistake in flags, config, folders or data.

    The message is one line that names what is wrong and the remedy. The command line
    prints it without a traceback and exits with code 2.
    """


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, to quote it in another message."""
    message = getattr(error, "strerror", None) or str(error)
    lines = message.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def choose(field: str, name: str, choices: Mapping[str, T]) -> T:
    """Looks up a choice by its name.

    Args:
      field: config field or flag that holds the name, as the error message shows it.
      name: name of the choice.
      choices: known choices by name.

    Returns:
      The choice.

    Raises:
      UsageError: if the name is unknown.
    """
    if name not in choices:
        raise UsageError(f"{field}={name}: choose one of {', '.join(choices)}")
    return choices[name]
