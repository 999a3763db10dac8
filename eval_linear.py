"""Evaluates a run's encoder; `isojax evaluate` without an installation.

    python eval_linear.py --workdir=DIR [--protocol=linear,knn,finetune,online]

The flags are in isojax/commands/evaluate.py.
"""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("evaluate", sys.argv[1:], program="python eval_linear.py")
