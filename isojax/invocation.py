"""Formats isojax command lines for messages. Imports no JAX."""

import shlex
import sys

CONSOLE = "isojax"
MODULE = "python -m isojax"
# Scripts in the repository by the command that they are equivalent to.
SCRIPTS = {"train": "python train.py", "evaluate": "python eval_linear.py"}


def command(name: str, *arguments: str) -> str:
    """Returns a command line in the form in which this process was started.

    Args:
      name: the name of the command, such as "train".
      *arguments: the flags and arguments of the command, unquoted.

    Returns:
      `isojax NAME ...` if the console command was used; `python train.py ...` or
      `python eval_linear.py ...` if a script was used; otherwise `python -m isojax NAME
      ...`, which works wherever isojax can be imported.
    """
    program = sys.argv[0]
    if program.startswith(f"{CONSOLE} "):
        start = f"{CONSOLE} {name}"
    elif program in SCRIPTS.values() and name in SCRIPTS:
        start = SCRIPTS[name]
    else:
        start = f"{MODULE} {name}"
    return shlex.join([*start.split(), *arguments])
