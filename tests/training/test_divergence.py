"""Runs that diverge or collapse."""

import json
import os

import pytest

from isojax.errors import UsageError
from isojax.training import (
    load_encoder,
    pretrain,
)
from tests.training.small_run import small_config

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.mark.long
def test_divergence_is_reported_in_one_line(tmp_path):
    config = small_config()
    config.method.update(metric="euclidean", normalize=False)
    config.optimizer.learning_rate = 1e30
    with pytest.raises(
        UsageError, match="diverged in step .* non-finite first.*learning_rate"
    ):
        pretrain(config, tmp_path / "run")


@pytest.mark.long
def test_a_diverging_run_keeps_its_last_good_checkpoint(tmp_path):
    config = small_config()
    workdir = pretrain(config, tmp_path / "whole")
    config.epochs = 8
    config.method.update(metric="euclidean", normalize=False)
    config.optimizer.learning_rate = 1e30
    with pytest.raises(
        UsageError, match="diverged in step 1[0-9]: .* non-finite first"
    ):
        pretrain(config, tmp_path / "fork", fork_from=workdir)
    report = json.loads((tmp_path / "fork" / "not_finite.json").read_text())
    assert report["step"] > 9
    assert "9" in os.listdir(tmp_path / "fork" / "checkpoints")
    load_encoder(tmp_path / "fork")


@pytest.mark.parametrize("action", ["warn", "stop"])
@pytest.mark.long
def test_a_collapse_that_lasts_an_epoch_is_reported_once(tmp_path, capsys, action):
    config = small_config()
    config.epochs = 5
    config.on_collapse = action
    # Views so alike and a rate so high that a single mode is left.
    config.model.projection_dim = 6
    config.method.update(metric="cosine", form="standard", target="online")
    config.optimizer.learning_rate = 2.0
    workdir = tmp_path / "run"
    if action == "stop":
        with pytest.raises(
            UsageError, match="has collapsed by epoch .* run is stopped"
        ):
            pretrain(config, workdir)
        rows = (workdir / "metrics.jsonl").read_text().splitlines()
        assert f"{len(rows) * 3}" in os.listdir(workdir / "checkpoints")
        assert len(rows) < 5
    else:
        pretrain(config, workdir)
        assert capsys.readouterr().out.count("has collapsed by epoch") == 1
