"""Command-line behaviour shared by the scripts: flags in, one clear line on a mistake.

Imports neither JAX nor TensorFlow, so that `--help` and a mistyped flag answer at once.
"""

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from isojax.errors import UsageError
from isojax.fields import field_names
from isojax.flag_help import Groups, format_help
from isojax.output import silence_output

_USAGE_EXIT_CODE = 2
_INTERRUPTED_EXIT_CODE = 130
_UNREAD_EXIT_CODE = 141  # a shell's for SIGPIPE

# Flags defined through this module are the calling script's in `--help`.
flags.disclaim_key_flags()


def define_config(default: str, description: str) -> flags.FlagHolder:
    """Defines the flag `--config`, whose fields `--config.FIELD=VALUE` sets.

    Args:
      default: path of the config file that is used without the flag.
      description: for `--help`.

    Returns:
      The flag; its `value` is the config once the flags are parsed.
    """
    return _or_exit(
        _naming_unknown_fields,
        lambda: config_flags.DEFINE_config_file("config", default, description),
        default,
    )


def read_config(location: str, fields: Mapping[str, Any]) -> ConfigDict:
    """Reads a config file apart from the flag `--config`.

    Args:
      location: path of the file, and a preset after a colon.
      fields: values to set, by dotted name.

    Raises:
      UsageError: if the file refuses the preset.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=[])
    try:
        values(["", f"--config={location}"])
    except flags.Error as error:
        raise UsageError(_one_line(error)) from error
    config = values["config"].value
    config.update_from_flattened_dict(fields)
    return config


def parse_flags(argv: Sequence[str], *, takes_arguments: bool = False) -> list[str]:
    """Parses the flags and checks every `--config.FIELD` against the config file.

    Args:
      argv: the program's name and its arguments.
      takes_arguments: whether there may be arguments that are no flags.

    Returns:
      The program's name, and the arguments that are no flags.

    Raises:
      UsageError: for an unknown flag or field, a value of the wrong type, a config file
        or preset that does not exist, or an argument that is no flag.
    """
    flags.FLAGS.set_gnu_getopt(takes_arguments)  # flags may follow arguments
    config = _config_argument(argv)
    path = config.split(":")[0]
    if config and not os.path.isfile(path):
        raise UsageError(
            f"there is no config file {path}; the ones that come with isojax are in "
            "configs/"
        )
    try:
        rest = _naming_unknown_fields(lambda: flags.FLAGS(argv), config)
    except flags.Error as error:
        raise UsageError(_one_line(error)) from error
    if len(rest) > 1 and not takes_arguments:
        raise UsageError(f"unexpected argument {rest[1]!r}; write it as --name=value")
    return rest


def run(
    main: Callable[..., None],
    *,
    groups: Groups | None = None,
    notes: Mapping[str, str] | None = None,
    takes_arguments: bool = False,
) -> None:
    """Parses the flags, calls `main`, and ends the process with its exit code.

    A `UsageError` is printed as one line on standard error with exit code 2.

    Args:
      main: the program.
      groups: its flags, as `--help` shows them: for each title the flags, each with
        what follows its name, such as {"run": {"workdir": "=DIR"}}.
      notes: more paragraphs of `--help`, by title.
      takes_arguments: whether `main` is given a list of the arguments that are no
        flags; otherwise there may be none.
    """

    def parse_or_exit(argv: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-h", "-help") for argument in argv[1:]):
            _or_exit(print, _help(groups or {}, notes or {}).rstrip())
            sys.exit(0)
        parse = partial(parse_flags, takes_arguments=takes_arguments)
        return _or_exit(parse, argv)

    logging.set_verbosity(logging.WARNING)  # orbax tells every file it writes
    app.run(
        lambda argv: _or_exit(main, *([argv[1:]] if takes_arguments else [])),
        flags_parser=parse_or_exit,
    )


def _help(groups: Groups, notes: Mapping[str, str]) -> str:
    return format_help(
        groups,
        values=flags.FLAGS,
        script=sys.argv[0],
        doc=sys.modules["__main__"].__doc__ or "",
        notes=notes,
    )


def _or_exit(function: Callable, *args):
    try:
        result = function(*args)
        if sys.stdout is not None:  # None where the shell has closed it
            sys.stdout.flush()
        return result
    except UsageError as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:
        silence_output()
        sys.exit(_UNREAD_EXIT_CODE)


def report(error: BaseException) -> int:
    """Shows an error, a user's mistake in one line; returns the process's exit code."""
    if isinstance(error, UsageError):
        print(f"error: {error}", file=sys.stderr)
        return _USAGE_EXIT_CODE
    traceback.print_exception(error)
    return 1


def _config_argument(argv: Sequence[str]) -> str:
    """The value of `--config`, or nothing."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
        if argument == "--config":
            return following
    return ""


def _naming_unknown_fields(parse: Callable, config_file: str) -> Any:
    """Calls `parse`, which fails somewhere inside where a field does not exist."""
    try:
        return parse()
    except (AttributeError, KeyError) as error:
        without_overrides = flags.FlagValues()
        config_flags.DEFINE_config_file(
            "config", config_file, flag_values=without_overrides, sys_argv=[]
        )
        known = list(field_names(without_overrides["config"].value))
        for argument in sys.argv[1:]:
            name = argument.removeprefix("--config.").split("=")[0]
            if argument.startswith("--config.") and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise UsageError(
                    f"there is no config field {name!r}; the nearest is {near!r}"
                ) from error
        raise


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A config file that raises shows its traceback; its last line is the message.
    line = lines[-1] if "Traceback" in str(error) else lines[0]
    return line.removeprefix("isojax.errors.UsageError: ")
