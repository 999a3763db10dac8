"""The files of a finished run."""

import json

import numpy as np
import pytest

from isojax.training import (
    pretrain,
)
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from tests.training.metric_writers.events import read_curves
from tests.training.small_run import EPOCHS, small_config

pytestmark = pytest.mark.usefixtures("small_run")


def test_a_run_writes_all_its_files(finished):
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["step"] == 9
    for name in ("train/loss", "train/std", "train/participation_ratio"):
        assert all(np.isfinite(row[name]) for row in rows)
    with np.load(finished / "spectrum.npz") as spectrum:
        np.testing.assert_array_equal(spectrum["epoch"], [1, 2, 3])
        assert spectrum["eigenvalues"].shape == (EPOCHS, 6)
        assert (np.diff(spectrum["eigenvalues"]) >= 0).all()
        np.testing.assert_array_equal(
            np.sort(spectrum["tracked"], axis=1), spectrum["eigenvalues"]
        )
    figures = {path.name for path in (finished / "figures").iterdir()}
    assert figures == {
        "views.png",
        "views.npz",
        "learning.png",
        "spectrum.png",
        "participation_ratio.png",
        "modes.png",
    }
    assert json.loads((finished / "config.json").read_text())["epochs"] == EPOCHS
    assert json.loads((finished / "machine.json").read_text())["backend"] == "cpu"


def test_tensorboard_shows_what_the_record_has(finished):
    pytest.importorskip("tensorboardX")
    curves = read_curves(finished / "tensorboard")
    rows = [
        json.loads(line)
        for line in (finished / "metrics.jsonl").read_text().splitlines()
    ]
    for name in rows[0].keys() - {"step"}:
        expected = [(row["step"], np.float32(row[name])) for row in rows]
        assert curves[name] == expected, name
    for name in ("loss", "learning_rate", "gradient_norm"):
        steps, values = np.transpose(curves[f"step/{name}"])
        np.testing.assert_array_equal(steps, range(1, 10))
        # An epoch's number is the mean over its steps.
        np.testing.assert_allclose(
            values.reshape(3, 3).mean(1),
            [row[f"train/{name}"] for row in rows],
            rtol=1e-5,
        )
    assert {name for name in curves if name.startswith("figures/")} == {
        f"figures/{path.stem}" for path in (finished / "figures").iterdir()
    }


@pytest.mark.long
def test_alignment_is_recorded_even_if_a_writer_fails(tmp_path, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoardWriter, "write_epoch", fail)
    config = small_config()
    config.steps = 6  # two epochs
    config.method.update(predictor="linear", form="standard")
    config.logging.tracked_modes = False
    workdir = pretrain(config, tmp_path / "run")
    rows = [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["train/alignment_min"] < row["train/alignment_mean"] <= 1
        assert "eval/nesum" in row and "eval/lidar" not in row
    with np.load(workdir / "spectrum.npz") as spectrum:
        assert set(spectrum) == {"epoch", "eigenvalues"}
    pytest.importorskip("tensorboardX")
    output = capsys.readouterr().out
    assert output.count("Warning: TensorBoard receives no more metrics") == 1
