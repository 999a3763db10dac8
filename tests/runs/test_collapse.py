import pytest

from isojax.configs import digits
from isojax.runs.collapse import explain_collapse, is_collapsed


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
