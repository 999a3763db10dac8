"""The error that means: the user can mend this, and the message says how."""


class UsageError(ValueError):
    """A mistake in flags, config, folders or data, told in one line with its remedy.

    The command line prints the message without a traceback and exits with code 2.
    """
