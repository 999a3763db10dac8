import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from isojax.errors import UsageError
from isojax.training.health import (
    QUANTITIES,
    check_finite,
    explain_collapse,
    first_not_finite,
    is_collapsed,
)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", range(len(QUANTITIES)))
def test_the_first_of_several_is_named(number, bad):
    values = dict.fromkeys(QUANTITIES, jnp.float32(1))
    assert first_not_finite(values) == 0
    for name in QUANTITIES[number:]:
        values[name] = jnp.float32(bad)
    assert first_not_finite(values) == number + 1


def test_finite_numbers_pass(tmp_path):
    metrics = {"not_finite": 0, "loss": 1.0}
    check_finite(metrics, step=3, workdir=tmp_path, last_checkpoint=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("last_checkpoint", "message"),
    [(60, "step 60 stays: go on from it by --fork_from="), (None, "no checkpoint yet")],
)
def test_the_step_is_reported_and_written(last_checkpoint, message, tmp_path):
    metrics = {"not_finite": 4, "loss": np.nan, "gradient_norm": np.inf}
    with pytest.raises(UsageError, match=f"step 77: the loss went first.*{message}"):
        check_finite(
            metrics, step=77, workdir=tmp_path, last_checkpoint=last_checkpoint
        )
    report = json.loads((tmp_path / "not_finite.json").read_text())
    assert report["first"] == "loss"
    assert (report["step"], report["loss"], report["gradient_norm"]) == (
        77,
        "nan",
        "inf",
    )


@pytest.mark.parametrize(
    ("std", "ratio", "collapsed"),
    # A tenth of 1/sqrt(64) is 0.0125.
    [(0.0126, 1.6, False), (0.0124, 30.0, True), (0.1, 1.4, True)],
)
def test_collapse_is_a_small_spread_or_a_single_mode(std, ratio, collapsed):
    row = {"train/std": std, "train/participation_ratio": ratio}
    assert is_collapsed(row, 64) == collapsed


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"stop_gradient": False}, "stop_gradient=True"),
        ({"predictor": "none"}, "predictor=directpred"),
        ({"form": "standard", "target": "online"}, "target=ema"),
        ({}, "learning rate too high"),
    ],
)
def test_the_likely_cause_is_that_of_the_method(changes, cause):
    method = digits.get_config().unlock().method
    method.update(changes)
    row = {"epoch": 3, "train/std": 0.01, "train/participation_ratio": 1.2}
    explanation = explain_collapse(row, method)
    assert cause in explanation and "by epoch 3" in explanation
