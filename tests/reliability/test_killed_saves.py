"""A process that is killed while it saves, hundreds of megabytes a second."""

import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from isojax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
KILLS = 12
SCRIPT = """
import itertools, sys
from isojax.training.checkpoint import Checkpoints
from tests.reliability.test_killed_saves import big_state

checkpoints = Checkpoints(sys.argv[1])
first = checkpoints.steps()[-1] + 1 if checkpoints.steps() else 1
for step in itertools.count(first):
    checkpoints.save(big_state(step))
    checkpoints.wait()
    print(step, flush=True)
"""

pytestmark = pytest.mark.slow


def big_state(step):
    """40 MB that tell their step in every number."""
    from isojax.training.state import TrainState

    params = {str(n): jnp.full((1000, 1000), step + n / 16) for n in range(10)}
    params["noise"] = jax.random.normal(jax.random.key(step), (300, 1000))
    return TrainState(jnp.int32(step), params, {}, {}, (), (), (), jax.random.key(step))


def test_every_acknowledged_save_exists(tmp_path, same):
    chance, acknowledged = random.Random(0), 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = process.stdout.readline()
        assert first, "the process that saves did not start"
        time.sleep(chance.uniform(0, 1))
        process.kill()
        rest, _ = process.communicate()
        acknowledged = max(acknowledged, *map(int, (first + rest).split()))
        restored = Checkpoints(tmp_path).restore(big_state(0))
        assert int(restored.step) in (acknowledged, acknowledged + 1)
        assert same(restored, big_state(int(restored.step)))
    assert not list((tmp_path / "checkpoints").glob("*.damaged"))
