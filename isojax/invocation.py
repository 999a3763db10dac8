"""How commands of isojax are written in messages that name one. Imports no JAX."""

import shlex
import sys

CONSOLE = "isojax"
MODULE = "python -m isojax"
# Scripts of the repository, by the command that each runs.
SCRIPTS = {"train": "python train.py", "evaluate": "python eval_linear.py"}


def command(name: str, *arguments: str) -> str:
    """A command line in the form in which this process was started.

    Args:
      name: of the command, such as "train".
      *arguments: its flags and arguments, unquoted.

    Returns:
      `isojax NAME ...` after the console command; `python train.py ...` or
      `python eval_linear.py ...` after one of the scripts; `python -m isojax NAME ...`
      otherwise, which works wherever isojax can be imported.
    """
    program = sys.argv[0]
    if program.startswith(f"{CONSOLE} "):
        start = f"{CONSOLE} {name}"
    elif program in SCRIPTS.values() and name in SCRIPTS:
        start = SCRIPTS[name]
    else:
        start = f"{MODULE} {name}"
    return shlex.join([*start.split(), *arguments])
