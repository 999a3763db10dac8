"""The flag `--config`, and the files and fields that it names."""

import difflib
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import isojax.configs
from isojax.commands.exit_codes import or_exit
from isojax.commands.path_flag import parse_path
from isojax.errors import UsageError
from isojax.fields import (
    changed_fields,
    check_effects,
    complete_data,
    field_names,
    field_values,
)

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
        if not config_argument(sys.argv):
            check_overrides(sys.argv, default)
        try:
            return config_flags.DEFINE_config_file("config", default, description)
        except flags.Error as error:
            raise UsageError(message_of(error)) from error

    return or_exit(define)


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
    complete_data(config, default, fields)
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
    return changed_fields(read_config(location, fields), _load_config(location), fields)


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
    complete_data(flag.value, default, overrides)
    return flag.value


def config_argument(argv: Sequence[str]) -> str | None:
    """Returns the last value of `--config`; None without the flag."""
    value = None
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument.startswith("--config="):
            value = argument.removeprefix("--config=")
        elif argument == "--config":
            value = following
    return value


def with_config(argv: Sequence[str], location: str) -> list[str]:
    """Returns the arguments with `--config` once, directly after the program's name."""
    program, *arguments = [
        argument
        for previous, argument in itertools.pairwise(["", *argv])
        if not argument.startswith("--config=")
        and "--config" not in (previous, argument)
    ]
    return [program, f"--config={location}", *arguments]


def check_overrides(argv: Sequence[str], location: str) -> None:
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


def message_of(error: Exception) -> str:
    """Returns the line of a flag's error that describes it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # If a config file raises, the error is its traceback, which ends in the message.
    line = lines[-1] if "Traceback" in str(error) else lines[0]
    return line.removeprefix("isojax.errors.UsageError: ")


def _load_config(location: str) -> ConfigDict:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=[])
    try:
        values(["", f"--config={location}"])
    except flags.Error as error:
        raise UsageError(message_of(error)) from error
    return values["config"].value
