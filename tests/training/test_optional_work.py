"""Whole runs and evaluations whose pictures, reports and metric writers fail."""

import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.data import Split, load_dataset
from isojax.evaluation import Options, evaluate, evaluate_run
from isojax.reporting import accuracy_curve, figures
from isojax.reporting.closing import announce_report
from isojax.training import assembly, encoder, epochs, pretrain
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from isojax.training.settings import image_source


@pytest.fixture
def train(tmp_path, monkeypatch, tiny_network):
    """`train(channels)` pretrains for an epoch; gives the folder and the images."""

    def begin(channels=1):
        full = load_dataset(image_source(digits.get_config().data))

        def few(split):
            repeated = np.repeat(split.images[::40], channels, axis=-1)
            return Split(repeated, split.labels[::40])

        names = ("pretrain", "train", "evaluation")
        dataset = full._replace(**{name: few(getattr(full, name)) for name in names})
        for module in (assembly, encoder):
            monkeypatch.setattr(
                module,
                "build_network",
                lambda _settings, *, predictor=None, axis_name=None, **_: tiny_network(
                    predictor, axis_name
                ),
            )
        config = ConfigDict(digits.get_config().to_dict())
        config.update(epochs=1, batch_size=32, checkpoint_every_epochs=1)
        config.optimizer.warmup_epochs = 0.0
        return pretrain(config, tmp_path / "run", dataset=dataset), dataset

    return begin


def break_all(monkeypatch, *places):
    def fail(*args, **kwargs):
        raise RuntimeError("out of order\nin several lines")

    for owner, name in places:
        monkeypatch.setattr(owner, name, fail)


def warnings(capsys):
    output = capsys.readouterr().out
    assert "in several lines" not in output
    return [line for line in output.splitlines() if line.startswith("Warning: ")]


@pytest.mark.usefixtures("small_run")
@pytest.mark.long
def test_grey_images_are_drawn(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    check_pictures(workdir, None, channels=1)
    assert warnings(capsys) == []


@pytest.mark.long
def test_images_of_another_number_of_channels_are_drawn(train, capsys):
    check_pictures(*train(channels=2), channels=2)
    assert warnings(capsys) == []


def check_pictures(workdir, dataset, *, channels):
    content = (workdir / "figures" / "views.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 5000
    with np.load(workdir / "figures" / "views.npz") as views:
        assert views["images"].shape[-1] == views["views"].shape[-1] == channels
    evaluate_run(workdir, dataset=dataset)
    announce_report(workdir)
    assert (workdir / "report.html").read_text().count("<img") > 60


@pytest.mark.long
def test_failing_figures_and_writers_do_not_end_a_run_or_its_evaluation(
    train, monkeypatch, capsys
):
    pytest.importorskip("tensorboardX")
    break_all(
        monkeypatch,
        (TensorBoardWriter, "write_steps"),
        (epochs, "save_machine"),
        (epochs, "draw_views"),
        (figures, "save_figures"),
    )
    workdir, dataset = train()
    lines = warnings(capsys)
    for missing in ("TensorBoard", "machine.json", "views.png", "the figures"):
        assert sum(missing in line for line in lines) == 1, (missing, lines)
    assert len(lines) == 4
    for line in lines:
        assert "(RuntimeError: out of order, training/test_optional_work.py:" in line
    assert (workdir / "checkpoints" / "3").is_dir()
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 1

    break_all(
        monkeypatch,
        (np, "savez_compressed"),
        (evaluate, "write_accuracies"),
        (accuracy_curve, "save_accuracy"),
    )
    (workdir / "evaluation.npz").touch()  # of an older evaluation
    result = evaluate_run(workdir, dataset=dataset, options=Options(steps="all"))
    assert json.loads((workdir / "linear_eval.json").read_text()) == result
    assert not (workdir / "evaluation.npz").exists()
    lines = warnings(capsys)
    for missing in ("evaluation.npz", "TensorBoard", "accuracy.png"):
        assert sum(missing in line for line in lines) == 1, (missing, lines)
    assert len(lines) == 3
