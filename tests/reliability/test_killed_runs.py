"""Whole runs that are killed and forked, by their command lines."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EPOCHS, KILLS = 8, 5
SMALL = [
    "--config.model.width=4",
    "--config.model.hidden_dim=16",
    "--config.model.projection_dim=8",
    f"--config.epochs={EPOCHS}",
    "--config.batch_size=64",
    "--config.data.validation_fraction=0.9",  # 400 images to train on
    "--config.checkpoint_every_epochs=1",
]

pytestmark = pytest.mark.slow


def start(workdir, *flags):
    return subprocess.Popen(
        [sys.executable, "train.py", *SMALL, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(workdir, *flags):
    process = start(workdir, *flags)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def record(workdir):
    """All that a run computed, without its speed."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        del row["train/images_per_second"]
    with np.load(workdir / "spectrum.npz") as spectrum:
        return rows, spectrum["eigenvalues"].tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(workdir)
    return workdir


def test_a_run_killed_again_and_again_ends_as_if_undisturbed(whole, tmp_path):
    workdir, chance = tmp_path / "run", random.Random(0)
    for _ in range(KILLS):
        process = start(workdir)
        # Some time after the first epoch: while training, saving, writing metrics.
        for line in process.stdout:
            if line.startswith("epoch "):
                break
        time.sleep(chance.uniform(0, 1))
        process.kill()
        process.communicate()
    finish(workdir)
    assert record(workdir) == record(whole)


def test_a_run_that_loses_its_newest_checkpoint_ends_the_same(whole, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir)
    for line in process.stdout:
        if line.startswith("epoch 4/"):
            break
    process.kill()
    process.communicate()
    checkpoints = workdir / "checkpoints"
    steps = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdecimal())
    data = max(
        (checkpoints / str(steps[-1])).rglob("*"), key=lambda p: p.stat().st_size
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert f"set aside as {steps[-1]}.damaged" in finish(workdir)
    assert record(workdir) == record(whole)


def test_a_fork_of_a_finished_run_trains_longer(whole, tmp_path):
    flags = [f"--fork_from={whole}", f"--config.epochs={EPOCHS + 2}"]
    for _ in range(2):  # the second time it is finished
        output = finish(tmp_path / "run", *flags)
    assert "is finished" in output
    rows, _ = record(tmp_path / "run")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 3))
    assert rows[:EPOCHS] == record(whole)[0]


def test_a_run_in_use_is_refused(tmp_path):
    first = start(tmp_path / "run")
    for line in first.stdout:
        if line.startswith("Pretraining"):
            break
    second = start(tmp_path / "run")
    output, _ = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert output.startswith("error: ") and f"in use by process {first.pid}" in output
