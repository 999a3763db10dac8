"""Starts small runs by the command of train.py, and reads the files they write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from isojax.data import load_dataset
from isojax.runs.config_file import load_config
from isojax.training.assembly import first_state
from isojax.training.checkpoint import Checkpoints
from isojax.training.settings import image_source
from tests.training.small_run import using_tiny_network

ROOT = Path(__file__).parents[2]
TINY = "tests/reliability/train_tiny.py"
LAUNCHER = ("-m", "isojax.launch", "--processes=2", "--")
SMALL = [
    "--config.batch_size=64",
    "--config.data.validation_fraction=0.9",  # 400 images, 6 steps an epoch
    "--config.checkpoint_every_epochs=1",
]


def start(workdir, *flags, devices=1, launcher=(), script=TINY):
    """Starts training; `stdout` of the process contains its output and errors."""
    fields = sorted([*SMALL, *flags], key=lambda flag: not flag.startswith("--config="))
    arguments = [*launcher, script, *fields, f"--workdir={workdir}"]
    return _open(arguments, devices)


def _open(arguments, devices):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_command(script, *flags, devices=1, launcher=()):
    """Runs a script to its end and returns its output."""
    process = _open([*launcher, script, *flags], devices)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def wait_for(process, beginning):
    """Reads the output until a line starts with `beginning`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return
    output = "".join(lines)
    raise AssertionError(f"ended before {beginning!r}: {process.wait()}\n{output}")


def finish(workdir, *flags, **kwargs):
    """Trains to the end and returns its output."""
    process = start(workdir, *flags, **kwargs)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def record(workdir):
    """Returns a run's metrics, without the speed, and its spectrum."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        del row["train/images_per_second"]
    with np.load(workdir / "spectrum.npz") as spectrum:
        return rows, spectrum["eigenvalues"].tolist()


def final_state(workdir):
    """Returns the state of the newest checkpoint, with the key's data as numbers."""
    config = load_config(workdir)
    dataset = load_dataset(image_source(config.data))
    with using_tiny_network():
        like = jax.eval_shape(lambda: first_state(config, dataset))
    state = Checkpoints(workdir).restore(like)
    return state.replace(key=jax.random.key_data(state.key))


def assert_same_state(workdir, other):
    """Asserts that the newest checkpoints of two runs are equal bit for bit."""
    jax.tree.map(
        np.testing.assert_array_equal, final_state(workdir), final_state(other)
    )
