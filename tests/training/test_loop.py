"""A whole run: how it follows its config and when it is refused."""

import itertools
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import schedules
from isojax.data import channel_statistics
from isojax.errors import UsageError
from isojax.runs.config_file import load_config, save_config
from isojax.runs.folder import open_run_folder
from isojax.training import (
    epochs,
    load_encoder,
    loop,
    pretrain,
    run_context,
)
from tests.training.small_run import EPOCHS, small_config

pytestmark = pytest.mark.usefixtures("small_run")


def test_schedules_span_the_whole_run(finished):
    config = load_config(finished)
    rows = map(json.loads, (finished / "metrics.jsonl").read_text().splitlines())
    found = [(row["train/target_decay"], row["train/learning_rate"]) for row in rows]
    steps = np.arange(9)
    decays = schedules.target_decay(
        steps, total_steps=9, initial=config.method.target_decay
    )
    rates = schedules.warmup_cosine(
        peak=config.optimizer.learning_rate, warmup_steps=3, total_steps=9
    )(steps)
    assert config.method.target == "ema"
    expected = np.stack([decays, rates], axis=1).reshape(3, 3, 2).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_run_s_batches_and_checkpoints_are_those_of_its_config(
    small_data, tmp_path, monkeypatch
):
    class Stop(Exception):
        pass

    def checkpoints(workdir, **options):
        given["checkpoints"] = options
        raise Stop

    given = {}
    config = small_config()
    config.seed = 5
    config.checkpoint.update(keep_last=3, keep_every_epochs=2)
    monkeypatch.setattr(
        run_context, "Feed", lambda *a, **options: given.update(feed=(a, options))
    )
    monkeypatch.setattr(run_context, "Checkpoints", checkpoints)
    with pytest.raises(Stop):
        pretrain(config, tmp_path / "run")
    (split,), options = given["feed"]
    assert split is small_data.pretrain
    assert options == {"batch_size": 32, "seed": 5, "place": config.data.feed}
    assert given["checkpoints"] == {"keep_last": 3, "keep_every_steps": 6}


@pytest.mark.long
def test_speed_is_without_compiling_and_checkpoints_and_evaluations_come_when_due(
    tmp_path, monkeypatch
):
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(epochs, "time", clock)  # each epoch takes one tick
    config = small_config()
    config.checkpoint_every_epochs = config.evaluate_every_epochs = 2
    config.logging.lidar = True
    workdir = pretrain(config, tmp_path / "run")
    rows = [*map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())]
    for name in ("eval/online_accuracy", "eval/effective_rank", "eval/lidar"):
        assert [name in row for row in rows] == [False, True, True]  # the last, too
    assert [row["train/images_per_second"] for row in rows] == [64, 96, 96]
    assert {*os.listdir(workdir / "checkpoints")} == {"6", "9"}


@pytest.mark.long
def test_a_computed_normalisation_is_recorded_and_used(small_data, tmp_path, capsys):
    config = small_config()
    config.steps, config.data.mean, config.data.std = 1, None, None
    workdir = pretrain(config, tmp_path / "run")
    mean, std = channel_statistics(small_data.pretrain.images)
    assert f"with mean {mean} and standard deviation {std}" in capsys.readouterr().out
    recorded = load_config(workdir).data
    assert (tuple(recorded.mean), tuple(recorded.std)) == (mean, std)
    assert config.data.mean is None
    pretrain(config, workdir)
    assert "is finished" in capsys.readouterr().out

    apply, variables = load_encoder(workdir)
    images = small_data.evaluation.images[:4]
    other = ConfigDict(load_config(workdir).to_dict())
    other.data.mean, other.data.std = [0.0], [1.0]
    save_config(workdir, other)
    same_apply, _ = load_encoder(workdir)
    normalized = (images / np.float32(255) - mean[0]) / np.float32(std[0])
    np.testing.assert_allclose(
        apply(variables, images), same_apply(variables, normalized), atol=1e-5
    )


def test_a_run_that_cannot_save_is_refused_before_it_trains(tmp_path, monkeypatch):
    with open_run_folder(tmp_path / "run", small_config()) as workdir:
        (workdir / "checkpoints").touch()
    monkeypatch.setattr(loop, "train_epochs", pytest.fail)
    with pytest.raises(UsageError, match="no checkpoint can be written to"):
        pretrain(small_config(), workdir)


def test_a_missing_package_is_reported_before_anything_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(loop, "load_run_data", None)  # would be called next
    config = small_config()
    config.logging.wandb = "online"
    with pytest.raises(UsageError, match="wandb=online .* pip install wandb"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_left_alone(finished, capsys):
    before = (finished / "metrics.jsonl").read_bytes()
    pretrain(small_config(), finished)
    assert "is finished" in capsys.readouterr().out
    assert (finished / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
def test_a_run_continues_if_nobody_reads_its_output(tmp_path, monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        pretrain(small_config(), tmp_path / "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == EPOCHS


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    config = small_config()
    config.batch_size = 30
    with pytest.raises(UsageError, match="by the 4 devices; set config.batch_size=28"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
