"""train.py with a tiny network, and a pause before each step if PAUSE is set.

It draws no figures and writes no report, which other tests do.
"""

import os
import sys
import time

import pytest

from isojax import data_parallel
from isojax.commands.main import run_command
from isojax.reporting import closing
from isojax.training.epoch_recorder import EpochRecorder
from tests.training.small_run import using_tiny_network

SECONDS = float(os.environ.get("PAUSE", "0"))
_step = data_parallel.MappedStep.__call__


def _paused_step(self, *arguments, **options):
    time.sleep(SECONDS)
    return _step(self, *arguments, **options)


if __name__ == "__main__":
    with using_tiny_network(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_parallel.MappedStep, "__call__", _paused_step)
        patch.setattr(EpochRecorder, "draw_figures", lambda self: None)
        patch.setattr(closing, "announce_report", lambda workdir: None)
        run_command("train", sys.argv[1:], program="python train.py")
