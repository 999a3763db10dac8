"""train.py with a tiny network instead of the config's."""

import sys

from isojax.commands.main import run_command
from tests.training.small_run import using_tiny_network

if __name__ == "__main__":
    with using_tiny_network():
        run_command("train", sys.argv[1:], program="python train.py")
