"""Flags, errors and `--help` of all commands.

Imports neither JAX nor TensorFlow, so that `--help` and errors in flags appear at once.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

import isojax.configs
from isojax.commands.help import Groups, format_help
from isojax.errors import UsageError
from isojax.fields import (
    changing_fields,
    check_effects,
    field_names,
    field_values,
    forget_normalization,
)
from isojax.output import accept_all_characters, discard_output, report_error

_INTERRUPTED_EXIT_CODE = 130
_UNREAD_EXIT_CODE = 141  # the exit code that shells report for SIGPIPE
_OVERRIDE = re.compile(r"--?(no)?config\.(?P<name>[^=]*)")

# Flags defined through this module belong to the calling command in `--help`.
flags.disclaim_key_flags()


def define_config(default: str, description: str) -> flags.FlagHolder:
    """Defines the flag `--config`; `--config.FIELD=VALUE` sets a field of it.

    Args:
      default: the name of the packaged config that is used without the flag.
      description: the text for `--help`.

    Returns:
      The flag; after parsing, its `value` is the config.
    """
    default = find_config(default)

    def define() -> flags.FlagHolder:
        # absl reads the overrides as soon as the flag is defined.
        if not _config_argument(sys.argv):
            _check_overrides(sys.argv, default)
        try:
            return config_flags.DEFINE_config_file("config", default, description)
        except flags.Error as error:
            raise UsageError(_one_line(error)) from error

    return _or_exit(define)


def define_path(name: str, default: str | None, description: str) -> flags.FlagHolder:
    """Defines a flag that is a path, in which `~` is the home directory.

    Args:
      name: the name of the flag.
      default: the value without the flag.
      description: the text for `--help`.

    Returns:
      The flag; after parsing, its `value` is a non-empty path, or the default.
    """
    return flags.DEFINE(
        _PathParser(), name, default, description, serializer=flags.ArgumentSerializer()
    )


def parse_path(path: str) -> str:
    """Replaces `~` at the start of a path by the home directory.

    Raises:
      UsageError: if the path is empty or there is no such user.
    """
    if not path.strip():
        raise UsageError("the path is empty; set one, or leave the flag out")
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UsageError(
            f"there is no user {expanded.split('/')[0]}; write ./{path} for a path in "
            "the current directory"
        )
    return expanded


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return parse_path(argument)

    def flag_type(self) -> str:
        return "path"


def find_config(location: str) -> str:
    """Returns the path of a config file, and its preset after a colon, if any.

    Args:
      location: a path, or the name of a packaged config, such as "digits:byol".

    Raises:
      UsageError: if there is no such file.
    """
    path, colon, preset = location.partition(":")
    path = parse_path(path)
    packaged = Path(isojax.configs.__path__[0], f"{path}.py")
    if path == packaged.stem and packaged.is_file() and not os.path.isfile(path):
        path = str(packaged)
    if not os.path.isfile(path):
        raise UsageError(
            f"there is no config file {path}; isojax has the configs "
            f"{', '.join(isojax.configs.config_names())}, as in --config=digits"
        )
    return f"{path}{colon}{preset}"


def read_config(location: str, fields: Mapping[str, Any]) -> ConfigDict:
    """Reads a config to train with from a file, without the flag `--config`.

    Args:
      location: the path of the file, and a preset after a colon.
      fields: the values to set, by dotted name.

    Returns:
      The config. If the fields choose another data set, its mean and std are computed
      later.

    Raises:
      UsageError: if the file has no such preset.
    """
    config, default = _load_config(location), _load_config(location)
    config.update_from_flattened_dict(fields)
    forget_normalization(config, default, fields)
    return config


def field_effects(location: str, fields: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns which fields have an effect in the config of a file.

    Args:
      location: the path of the file, and a preset after a colon.
      fields: the values to set, by dotted name.

    Returns:
      For each field that differs from the file's, the reason why it has no effect, or
      None if it has one.
    """
    return changing_fields(
        read_config(location, fields), _load_config(location), fields
    )


def config_to_train(flag: flags.FlagHolder) -> ConfigDict:
    """Returns the config of the parsed flag `--config`, to train with.

    Args:
      flag: the flag that `define_config` returned.

    Returns:
      The config. If the flags choose another data set, its mean and std are computed
      later.

    Raises:
      UsageError: if a field that is set has no effect.
    """
    location = config_flags.get_config_filename(flags.FLAGS["config"])
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    default = _load_config(location)
    check_effects(flag.value, default, overrides)
    forget_normalization(flag.value, default, overrides)
    return flag.value


def _load_config(location: str) -> ConfigDict:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=[])
    try:
        values(["", f"--config={location}"])
    except flags.Error as error:
        raise UsageError(_one_line(error)) from error
    return values["config"].value


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
    config = _config_argument(argv)
    if config is not None:
        try:
            location = find_config(config)
        except UsageError as error:
            raise UsageError(f"--config={config}: {error}") from error
        replaced = {config: location, f"--config={config}": f"--config={location}"}
        argv = [replaced.get(argument, argument) for argument in argv]
        _check_overrides(argv, location)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise UsageError(_one_line(error)) from error
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
        if any(argument in ("--help", "-h", "-help") for argument in argv[1:]):
            _or_exit(print, _help(module, groups or {}, notes or {}).rstrip())
            sys.exit(0)
        parse = partial(parse_flags, takes_arguments=takes_arguments)
        return _or_exit(parse, argv)

    accept_all_characters()
    logging.set_verbosity(logging.WARNING)  # orbax logs every file that it writes
    app.run(
        lambda argv: _or_exit(main, *([argv[1:]] if takes_arguments else [])),
        flags_parser=parse_or_exit,
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


def _or_exit(function: Callable, *args):
    try:
        result = function(*args)
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


def _config_argument(argv: Sequence[str]) -> str | None:
    """Returns the last value of `--config`; None without the flag."""
    value = None
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument.startswith("--config="):
            value = argument.removeprefix("--config=")
        elif argument == "--config":
            value = following
    return value


def _check_overrides(argv: Sequence[str], location: str) -> None:
    """Checks that every `--config.FIELD` is a field of the config file.

    Raises:
      UsageError: if one is not, with the nearest field; or if one is a section.
    """
    overrides = [match for argument in argv[1:] if (match := _OVERRIDE.match(argument))]
    if not overrides:
        return
    config = _load_config(location)
    known = list(field_names(config))
    for override in overrides:
        name = override["name"]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"there is no config field {name!r}; the nearest is {near!r}"
            )
        if name not in field_values(config):
            raise UsageError(
                f"config.{name} is a section; set its fields one by one, with "
                f"--config.{name}.FIELD=VALUE"
            )


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # If a config file raises, the error is its traceback, which ends in the message.
    line = lines[-1] if "Traceback" in str(error) else lines[0]
    return line.removeprefix("isojax.errors.UsageError: ")
