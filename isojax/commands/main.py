"""The console command `isojax`, the same as `python -m isojax`.

Imports neither JAX nor the module of a command before the command is known.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

import isojax
from isojax.errors import UsageError
from isojax.invocation import CONSOLE, MODULE
from isojax.output import report_error

COMMANDS = {
    "train": "pretrain an encoder without labels",
    "evaluate": "evaluate a run's encoder: linear readout, k-NN, fine-tuning",
    "report": "write an HTML page about a run, or a comparison of several",
    "export": "write a run's weights for PyTorch, Flax or safetensors",
    "sweep": "train and evaluate several methods and seeds, and write tables",
    "profile": "measure the cost of a training step",
    "launch": "train or evaluate with several processes on this machine",
}


def main() -> None:
    """Runs the command in `sys.argv`."""
    is_module = sys.argv[0].endswith("__main__.py")
    program = MODULE if is_module else CONSOLE
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_help(program))
    elif name == "--version":
        print(f"isojax {isojax.__version__}")
    elif name in COMMANDS:
        run_command(name, arguments, program=f"{program} {name}")
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.0)[0]
        error = UsageError(
            f"there is no command {name!r}; the nearest is {near!r}. "
            f"{program} --help lists the commands"
        )
        sys.exit(report_error(error))


def run_command(name: str, arguments: Sequence[str], *, program: str) -> None:
    """Runs one command and exits with its exit code.

    Args:
      name: one of `COMMANDS`.
      arguments: the command's flags and arguments.
      program: the words that the user typed before them, for messages.
    """
    sys.argv = [program, *arguments]
    importlib.import_module(f"isojax.commands.{name}").run()


def _help(program: str) -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND [--FLAG=VALUE ...]",
            "",
            "Non-contrastive self-supervised learning with closed-form predictors.",
            "",
            "commands:",
            *lines,
            "",
            f"{program} COMMAND --help shows the flags of a command.",
        ]
    )
