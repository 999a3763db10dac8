"""Flags that are paths."""

import os

from absl import flags

from isojax.errors import UsageError

# Flags defined through this module belong to the calling command in `--help`.
flags.disclaim_key_flags()


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
