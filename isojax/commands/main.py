"""The console command `isojax`, and `python -m isojax`: one command with sub-commands.

Imports neither JAX nor a command's module before the command is known.
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
    "evaluate": "measure a run's encoder: linear readout, k-NN, fine-tuning",
    "report": "write a run, or several beside each other, as one HTML page",
    "export": "write a run's weights for PyTorch, Flax or safetensors",
    "sweep": "train and evaluate methods, targets and seeds, and make tables",
    "profile": "measure what a training step costs",
    "launch": "start several processes of one training on this machine",
}


def main() -> None:
    """Runs the command that the command line names."""
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
            f"there is no command {name!r}; the nearest is {near!r}, and "
            f"{program} --help lists all"
        )
        sys.exit(report_error(error))


def run_command(name: str, arguments: Sequence[str], *, program: str) -> None:
    """Runs one command and ends the process with its exit code.

    Args:
      name: one of `COMMANDS`.
      arguments: its flags and arguments.
      program: what was typed before them, for the command's own messages.
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
            f"{program} COMMAND --help shows the flags of one.",
        ]
    )
