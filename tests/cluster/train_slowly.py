"""train.py with a tiny network, and a pause before each step if PAUSE is set."""

import os
import sys
import time

import pytest

from isojax import data_parallel
from isojax.commands.main import run_command
from tests.training.small_run import using_tiny_network

SECONDS = float(os.environ.get("PAUSE", "0"))
_step = data_parallel.MappedStep.__call__


def _paused_step(self, *arguments, **options):
    time.sleep(SECONDS)
    return _step(self, *arguments, **options)


if __name__ == "__main__":
    with using_tiny_network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_parallel.MappedStep, "__call__", _paused_step)
        run_command("train", sys.argv[1:], program="python train.py")
