"""eval_linear.py with a tiny network, and few steps of fine-tuning."""

import sys

from isojax.commands.main import run_command
from isojax.evaluation import finetuning
from tests.training.small_run import using_tiny_network

if __name__ == "__main__":
    finetuning._FEWEST_STEPS = 1
    finetuning.LEARNING_RATES = (0.01, 0.03)
    with using_tiny_network():
        run_command("evaluate", sys.argv[1:], program="python eval_linear.py")
