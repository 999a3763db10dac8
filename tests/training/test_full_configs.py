"""Every data set's config, at its full resolution, on archives in the official layout.

Widths are cut, so that compiling takes seconds; images, views, stem and optimiser are
those of the config.
"""

import importlib
import json

import numpy as np
import pytest

from isojax.training import load_encoder, pretrain
from tests.data import miniatures


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param("cifar10", "official", marks=pytest.mark.slow),
        # The same program as for CIFAR-10, but for the number of classes.
        pytest.param("cifar100", "isoloss", marks=pytest.mark.slow),
        pytest.param("stl10", "isoloss", marks=pytest.mark.long),
        pytest.param("tinyimagenet", "directpred_noema", marks=pytest.mark.slow),
    ],
)
def test_two_steps_and_an_encoder(name, preset, tmp_path):
    pytest.importorskip("tensorflow")
    config = importlib.import_module(f"isojax.configs.{name}").get_config(preset)
    config.steps = 2
    config.batch_size = 8
    config.model.width = 4
    config.model.hidden_dim = 32
    config.model.projection_dim = 16
    with miniatures.known([config.data.name], tmp_path / "data"):
        workdir = pretrain(config, tmp_path / "run", data_dir=tmp_path / "data")
    (row,) = (workdir / "metrics.jsonl").read_text().splitlines()
    row = json.loads(row)
    assert row["step"] == 2
    assert np.isfinite(row["train/loss"])
    assert 0 <= row["eval/online_accuracy"] <= 1
    assert (workdir / "figures" / "views.png").exists()
    side = config.data.resolution
    apply, variables = load_encoder(workdir)
    features = apply(variables, np.zeros((2, side, side, 3), np.uint8))
    assert features.shape == (2, 32)
