"""Turns user errors into one line on standard error and an exit code."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags

from isojax.errors import UsageError
from isojax.output import discard_output, report_error

_INTERRUPTED_EXIT_CODE = 130
_UNREAD_EXIT_CODE = 141  # the exit code that shells report for SIGPIPE

# Flags defined through this module belong to the calling command in `--help`.
flags.disclaim_key_flags()

Result = TypeVar("Result")


def or_exit(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function, and exits if it fails.

    A `UsageError` is printed as one line. An interrupt and a closed output exit without
    a message. Other errors are raised.

    Args:
      function: the function.
      *arguments: its arguments.

    Returns:
      What the function returns.
    """
    try:
        result = function(*arguments)
        if sys.stdout is not None:  # None if the shell has closed it
            sys.stdout.flush()
        return result
    except UsageError as error:
        sys.exit(report_error(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:
        discard_output(sys.stdout)
        sys.exit(_UNREAD_EXIT_CODE)
