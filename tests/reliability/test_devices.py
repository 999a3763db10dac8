"""The same run on other numbers of devices and processes.

The learning rate is small: at a usual one a change of 1e-7 in the parameters grows a
hundredfold within 20 steps on one device, whatever caused it. The momentum is not
compared: in the gradients of so narrow a network rounding is seen at 1e-4.
"""

import time

import jax
import numpy as np
import pytest

from tests.reliability.runs import (
    LAUNCHER,
    final_state,
    finish,
    record,
    start,
    wait_for,
)

FLAGS = ["--config.steps=20", "--config.optimizer.learning_rate=1e-4"]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The last state of 20 steps on one device, and the metrics of its epochs."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    finish(workdir, *FLAGS)
    return final_state(workdir), record(workdir)[0]


def relative_difference(tree, other):
    """Of all arrays of two trees, as one vector each."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    others = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(other)]
    a, b = np.concatenate(leaves), np.concatenate(others)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def assert_equal_but_for_rounding(state, alone):
    assert int(state.step) == int(alone.step) == 20
    for part in ("params", "target_params", "batch_stats", "correlation"):
        difference = relative_difference(getattr(state, part), getattr(alone, part))
        assert difference < 1e-5, part


@pytest.mark.parametrize(
    ("devices", "launcher"),
    [
        pytest.param(2, (), marks=slow),
        pytest.param(4, (), marks=slow),
        pytest.param(8, (), marks=slow),
        pytest.param(1, LAUNCHER, marks=pytest.mark.long),
        pytest.param(2, LAUNCHER, marks=slow),
    ],
    ids=["2", "4", "8", "2 processes", "2 processes of 2"],
)
def test_the_run_is_the_same(alone, tmp_path, devices, launcher):
    finish(tmp_path / "run", *FLAGS, devices=devices, launcher=launcher)
    state, rows = alone
    assert_equal_but_for_rounding(final_state(tmp_path / "run"), state)
    for row, expected in zip(record(tmp_path / "run")[0], rows, strict=True):
        name = "eval/online_accuracy"
        assert row[name] == pytest.approx(expected[name], abs=2 / 3600)
        for name in ("effective_rank", "alpha_req", "nesum", "lidar"):
            value = expected[f"eval/{name}"]
            assert row[f"eval/{name}"] == pytest.approx(value, rel=1e-3)


@pytest.mark.long
def test_a_signal_after_the_last_step_does_not_change_the_exit_code(tmp_path):
    """One process writes the report, and the other one waits for it to exit."""
    process = start(tmp_path / "run", *FLAGS, launcher=LAUNCHER)
    wait_for(process, "Next: ")
    time.sleep(1)  # the other process has nothing left to do
    process.terminate()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output


@slow
def test_a_run_resumes_with_more_devices(alone, tmp_path):
    process = start(tmp_path / "run", *FLAGS)
    wait_for(process, "epoch 2/")
    process.kill()
    process.communicate()
    assert "Resuming after step" in finish(tmp_path / "run", *FLAGS, devices=4)
    assert_equal_but_for_rounding(final_state(tmp_path / "run"), alone[0])
