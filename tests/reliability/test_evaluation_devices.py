"""The same evaluation on other numbers of devices and processes."""

import json
import shutil

import numpy as np
import pytest

from tests.reliability.runs import LAUNCHER, finish, run_command

EVALUATE = "tests/reliability/evaluate_tiny.py"
FLAGS = ["--protocol=linear,knn,finetune,online"]
LINEAR = [f"{each}accuracy" for each in ("", "random_init_", "raw_pixel_")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of 10 steps on one device."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    finish(workdir, "--config.steps=10")
    return workdir


@pytest.fixture(scope="module")
def alone(trained):
    """The result and the arrays of an evaluation on one device."""
    return evaluate(trained)


def evaluate(workdir, **kwargs):
    run_command(EVALUATE, f"--workdir={workdir}", *FLAGS, **kwargs)
    result = json.loads((workdir / "linear_eval.json").read_text())
    del result["seconds"]
    with np.load(workdir / "evaluation.npz") as arrays:
        return result, dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "launcher"),
    [(4, ()), (3, LAUNCHER)],  # 400 images, 64 a step: neither divides by 6
    ids=["4", "2 processes of 3"],
)
def test_the_evaluation_is_the_same(trained, alone, tmp_path, devices, launcher):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    result, arrays = evaluate(workdir, devices=devices, launcher=launcher)
    expected_result, expected_arrays = alone
    for name in (*LINEAR, "finetune_accuracy", "finetune_validation_accuracy"):
        # Rounding may move single images across the border between two classes.
        assert result.pop(name) == pytest.approx(expected_result[name], abs=2 / 3600)
    for name, value in result.items():
        if name != "per_class_accuracy":
            assert value == expected_result[name], name
    assert (arrays.pop("predictions") != expected_arrays["predictions"]).sum() <= 2
    for name in ("embedded", "features", "labels"):
        np.testing.assert_array_equal(arrays[name], expected_arrays[name], name)
