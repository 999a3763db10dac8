"""Flags, errors and `--help` of all commands.

Imports neither JAX nor TensorFlow, so that `--help` and errors in flags appear at once.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from absl import app, command_name, flags, logging

from isojax.commands.config_flag import (
    check_overrides,
    config_argument,
    find_config,
    message_of,
    with_config,
)
from isojax.commands.exit_codes import or_exit
from isojax.commands.help import Groups, format_help
from isojax.errors import UsageError
from isojax.output import accept_all_characters


def parse_flags(argv: Sequence[str], *, takes_arguments: bool = False) -> list[str]:
    """Parses the flags and checks every `--config.FIELD` against the config file.

    Args:
      argv: the program's name and its arguments.
      takes_arguments: whether arguments other than flags are allowed.

    Returns:
      The program's name, and the arguments that are not flags.

    Raises:
      UsageError: for an unknown flag or field, a value of the wrong type, a config file
        or preset that does not exist, or an argument that is not allowed.
    """
    flags.FLAGS.set_gnu_getopt(takes_arguments)  # flags may follow arguments
    config = config_argument(argv)
    if config is not None:
        try:
            location = find_config(config)
        except UsageError as error:
            raise UsageError(f"--config={config}: {error}") from error
        argv = with_config(argv, location)
        check_overrides(argv, location)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise UsageError(message_of(error)) from error
    if len(rest) > 1 and not takes_arguments:
        raise UsageError(f"unexpected argument {rest[1]!r}; write it as --name=value")
    return rest


def run(
    main: Callable[..., None],
    *,
    module: str = "__main__",
    groups: Groups | None = None,
    notes: Mapping[str, str] | None = None,
    takes_arguments: bool = False,
) -> None:
    """Parses the flags, calls `main`, and exits.

    A `UsageError` is printed as one line on standard error with exit code 2.

    Args:
      main: the command.
      module: the name of the module that defines the flags, and whose docstring
        describes the command.
      groups: the flags as `--help` shows them: for each title, the flags, each with the
        text that follows its name, such as {"run": {"workdir": "=DIR"}}.
      notes: further paragraphs of `--help`, by title.
      takes_arguments: whether `main` takes a list of the arguments that are not flags;
        otherwise such arguments are errors.
    """

    def parse_or_exit(argv: Sequence[str]) -> list[str]:
        _set_process_name()
        if any(argument in ("--help", "-h", "-help") for argument in argv[1:]):
            or_exit(print, _help(module, groups or {}, notes or {}).rstrip())
            sys.exit(0)
        parse = partial(parse_flags, takes_arguments=takes_arguments)
        return or_exit(parse, argv)

    accept_all_characters()
    logging.set_verbosity(logging.WARNING)  # orbax logs every file that it writes
    app.run(
        lambda argv: or_exit(main, *([argv[1:]] if takes_arguments else [])),
        flags_parser=parse_or_exit,
    )


def _set_process_name() -> None:
    """Names the process after the command, without the spaces that absl leaves in it.

    Slurm's process tracking `proctrack/linuxproc` does not find a process whose name
    contains a space, so that no signal reaches it.
    """
    command_name.set_kernel_process_name(
        os.path.basename(sys.argv[0]).replace(" ", "-")
    )


def _help(module: str, groups: Groups, notes: Mapping[str, str]) -> str:
    return format_help(
        groups,
        values=flags.FLAGS,
        module=module,
        program=sys.argv[0],
        doc=sys.modules[module].__doc__ or "",
        notes=notes,
    )
