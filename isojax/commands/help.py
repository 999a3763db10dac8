"""`--help` of the commands: their flags in groups, wrapped to the terminal's width."""

import argparse
import os
import shutil
import textwrap
from collections.abc import Mapping

from absl import flags

# For each group's title, the flags in it, and the text that follows the name of each.
Groups = Mapping[str, Mapping[str, str]]


def format_help(
    groups: Groups,
    *,
    values: flags.FlagValues,
    module: str,
    program: str,
    doc: str,
    notes: Mapping[str, str],
) -> str:
    """Returns the text of a command's `--help`.

    Args:
      groups: the flags by group, such as {"run": {"workdir": "=DIR"}}; the module's
        other flags follow as "other".
      values: the container that holds the flags.
      module: the name of the module that defines them.
      program: the words that the user typed before the flags.
      doc: the module's docstring, in which a paragraph that starts with "isojax " is
        the usage.
      notes: the paragraphs after the flags, by title.

    Returns:
      Lines of at most the terminal's width, or $COLUMNS, and at most 100 characters.
    """
    parts = doc.split("\n\n")
    # Recognised by its words: a formatter may remove the indentation.
    usage = [part for part in parts if part.lstrip().startswith("isojax ")]
    flags_typed = " ".join(usage).split()[2:]
    parser = argparse.ArgumentParser(
        usage=wrap_usage(" ".join([program, *flags_typed])),
        description=_escape(" ".join(part for part in parts if part not in usage)),
        formatter_class=_Formatter,
        add_help=False,
    )
    own = {flag.name: flag for flag in values.get_key_flags_for_module(module)}
    rest = own.keys() - {name for group in groups.values() for name in group}
    others = {"other": {name: "=VALUE" for name in sorted(rest)}} if rest else {}
    for title, members in {**groups, **others}.items():
        group = parser.add_argument_group(title)
        for name, shape in members.items():
            # An option with an argument would be shown without the equals sign.
            group.add_argument(
                f"--{name}{shape}", action="store_true", help=_text(own[name], shape)
            )
    for title, note in notes.items():
        parser.add_argument_group(title, _escape(note))
    return parser.format_help()


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str):
        width = _width()
        # In a narrow terminal the text of a flag starts below its name.
        super().__init__(prog, max_help_position=26 if width >= 70 else 6, width=width)


def _width() -> int:
    return max(20, min(100, shutil.get_terminal_size().columns - 2))


def wrap_usage(usage: str) -> str:
    """Wraps the usage for argparse, whose own wrapping depends on the Python version.

    Args:
      usage: the words that the user types. Lines do not break inside brackets.

    Returns:
      Lines of at most the terminal's width, unless a word is longer.
    """
    words = " ".join(usage.split())
    # Spaces inside brackets do not break.
    pieces, depth = [], 0
    for character in words:
        depth += (character == "[") - (character == "]")
        pieces.append("\0" if character == " " and depth else character)
    lines = textwrap.wrap(
        "".join(pieces),
        width=_width() - len("usage: "),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    wrapped = ("\n" + " " * len("usage: ")).join(lines).replace("\0", " ")
    return _escape(wrapped)


def _text(flag: flags.Flag, shape: str) -> str:
    """Returns a flag's description, and its default if it has a single one."""
    default = flag.default_as_str.strip("'") if flag.default_as_str else ""
    if flag.boolean or not default or shape.startswith("."):
        return _escape(flag.help)
    if os.path.isabs(default):  # a packaged config
        default = os.path.basename(default).removesuffix(".py")
    return _escape(f"{flag.help} (default: {default})")


def _escape(text: str) -> str:
    return text.replace("%", "%%")
