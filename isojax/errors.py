"""The error that users can fix themselves, and short forms of other errors."""


class UsageError(ValueError):
    """A mistake in flags, config, folders or data, with its remedy in one line.

    The command line prints the message without a traceback and exits with code 2.
    """


def first_line(error: Exception) -> str:
    """The message of an error, cut to one line, to quote in another message."""
    message = getattr(error, "strerror", None) or str(error)
    lines = message.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
