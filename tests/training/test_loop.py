"""A whole run of a tiny network: what it leaves, and going on after a stop."""

import itertools
import json
import os
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import parallel, schedules
from isojax.configs import digits
from isojax.data import Split, channel_statistics, load_dataset
from isojax.errors import UsageError
from isojax.evaluation import Options, evaluate_run, images
from isojax.runs.config_file import load_config, save_config
from isojax.runs.folder import open_run_folder
from isojax.stopping import StopRequest
from isojax.training import (
    assembly,
    encoder,
    load_encoder,
    loop,
    pretrain,
    random_encoder,
    run_context,
)
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from tests.training.metric_writers.events import read_curves

EPOCHS = 3


def small_config():
    config = ConfigDict(digits.get_config().to_dict())
    config.update(
        epochs=EPOCHS, batch_size=32, checkpoint_every_epochs=1, preset="isoloss"
    )
    config.optimizer.warmup_epochs = 1.0
    return config


@pytest.fixture(scope="module")
def small_data():
    """Every fortieth digit, enough for a loop."""
    full = load_dataset(digits.get_config().data)
    few = {
        name: Split(*(array[::40] for array in getattr(full, name)))
        for name in ("pretrain", "train", "evaluation")
    }
    return full._replace(**few)


@pytest.fixture(scope="module", autouse=True)
def _small_run(small_data, tiny_network):
    """Every run here has the small data and a network that compiles in a second."""

    def build(settings, *, predictor=None, axis_name=None, **_):
        return tiny_network(predictor, axis_name)

    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, images):
            patch.setattr(module, "load_dataset", lambda *args, **kwargs: small_data)
        for module in (assembly, encoder):
            patch.setattr(module, "build_network", build)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that was never interrupted."""
    return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_leaves_what_it_promises(finished):
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


def test_speed_is_without_compiling_and_checkpoints_come_when_they_are_due(
    tmp_path, monkeypatch
):
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(loop, "time", clock)  # each epoch takes one tick
    config = small_config()
    config.checkpoint_every_epochs = 2
    workdir = pretrain(config, tmp_path / "run")
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    assert [row["train/images_per_second"] for row in rows] == [64, 96, 96]
    assert {*os.listdir(workdir / "checkpoints")} == {"6", "9"}


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


def test_an_interrupted_run_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    workdir = tmp_path / "stopped"

    class StoppingStep(parallel.MappedStep):
        def __call__(self, state, *args, **kwargs):
            if int(state.step) == 7:  # in the middle of the last epoch
                raise KeyboardInterrupt
            return super().__call__(state, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parallel, "MappedStep", StoppingStep)
        pretrain(small_config(), workdir)
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 2

    pretrain(small_config(), workdir)
    expected, resumed = load_encoder(finished)[1], load_encoder(workdir)[1]
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)
    with (
        np.load(workdir / "spectrum.npz") as resumed,
        np.load(finished / "spectrum.npz") as expected,
    ):
        for name in expected:
            np.testing.assert_array_equal(resumed[name], expected[name])
    pytest.importorskip("tensorboardX")
    curves, whole = (read_curves(run / "tensorboard") for run in (workdir, finished))
    for name in ("step/loss", "train/loss", "spectrum/log10_eigenvalues"):
        assert curves[name] == whole[name]


def crossing(step):
    """Replaces the correlation by one whose modes cross within every epoch."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]

    def cross(state, batch, shared):
        state, report = step(state, batch, shared)
        values = 2 + jnp.cos(state.step * 0.7 + jnp.arange(6.0))
        return state.replace(correlation=(basis * values[None]) @ basis.T), report

    return cross


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A config, and the spectrum of its whole run, in which modes cross."""
    mapped_step = parallel.MappedStep
    config = small_config()
    config.update(epochs=6, checkpoint_every_epochs=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "MappedStep", lambda step: mapped_step(crossing(step)))
        whole = pretrain(config, tmp_path_factory.mktemp("runs") / "crossed")
        expected = dict(np.load(whole / "spectrum.npz"))
        assert (expected["tracked"] != expected["eigenvalues"]).any()
        yield config, expected


def assert_same_spectrum(workdir, expected):
    with np.load(workdir / "spectrum.npz") as spectrum:
        for name, array in expected.items():
            np.testing.assert_array_equal(spectrum[name], array, err_msg=name)


def test_modes_keep_their_order_after_a_stop_amid_an_epoch_and_a_kill(
    crossed, tmp_path, monkeypatch
):
    config, expected = crossed
    stop, workdir = StopRequest(), tmp_path / "run"
    finish_step = loop.finish_step

    def stop_or_kill(context, result, step, bar):
        stop_requested = finish_step(context, result, step, bar)
        if stop.has_stopped_run and step == 14:
            raise KeyboardInterrupt
        return stop_requested or (not stop.has_stopped_run and step == 7)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_step", stop_or_kill)
        pretrain(config, workdir, stop=stop)
        assert stop.has_stopped_run
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, workdir, stop=stop)
    names = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert names == {"8"}  # epochs have three steps
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 4
    pretrain(config, workdir)
    assert_same_spectrum(workdir, expected)


@pytest.mark.slow
def test_modes_keep_their_order_in_a_fork_from_amid_an_epoch(crossed, tmp_path):
    config, expected = crossed
    short = ConfigDict(config.to_dict())
    short.steps = 8
    source = pretrain(short, tmp_path / "short")
    pretrain(config, tmp_path / "long", fork_from=source)
    assert_same_spectrum(tmp_path / "long", expected)


def test_a_run_that_cannot_save_is_refused_before_it_trains(tmp_path, monkeypatch):
    with open_run_folder(tmp_path / "run", small_config()) as workdir:
        (workdir / "checkpoints").touch()
    monkeypatch.setattr(loop, "train_epochs", pytest.fail)
    with pytest.raises(UsageError, match="no checkpoint can be written to"):
        pretrain(small_config(), workdir)


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


def test_a_linear_predictor_s_alignment_is_recorded_and_no_writer_ends_a_run(
    tmp_path, capsys, monkeypatch
):
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
    with np.load(workdir / "spectrum.npz") as spectrum:
        assert set(spectrum) == {"epoch", "eigenvalues"}
    pytest.importorskip("tensorboardX")
    output = capsys.readouterr().out
    assert output.count("Warning: TensorBoard receives no more metrics") == 1


def test_a_missing_package_is_told_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(loop, "load_dataset", None)  # would be called next
    config = small_config()
    config.logging.wandb = "online"
    with pytest.raises(UsageError, match=r"wandb=online needs the package wandb: pip"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_left_alone(finished, capsys):
    before = (finished / "metrics.jsonl").read_bytes()
    pretrain(small_config(), finished)
    assert "is finished" in capsys.readouterr().out
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_run_goes_on_where_nobody_reads_its_output(tmp_path, monkeypatch):
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


def test_the_encoder_takes_integer_and_float_images_alike(finished, small_data):
    apply, variables = load_encoder(finished)
    images = small_data.evaluation.images[:3]
    features = apply(variables, images)
    assert features.shape == (3, 16)
    np.testing.assert_allclose(
        apply(variables, images / np.float32(255)), features, rtol=1e-4, atol=1e-5
    )
    untrained = random_encoder(finished)
    assert np.abs(untrained[0](untrained[1], images) - features).max() > 1e-2


def test_the_encoder_refuses_images_of_the_wrong_shape(finished):
    apply, variables = load_encoder(finished)
    with pytest.raises(ValueError, match=r"\(n, h, w, 1\)"):
        apply(variables, np.zeros((2, 28, 28, 3), np.uint8))


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(finished):
    with pytest.raises(UsageError, match="no checkpoint of step 5 .* there are 6, 9"):
        load_encoder(finished, step=5)


def test_evaluation_writes_accuracies_and_baselines(finished):
    result = evaluate_run(finished)
    assert json.loads((finished / "linear_eval.json").read_text()) == result
    for name in ("accuracy", "random_init_accuracy", "raw_pixel_accuracy"):
        assert 0 < result[name] <= 1
    assert result["raw_pixel_accuracy"] > 0.5
    assert (result["split"], result["num_train"], result["num_test"]) == (
        "test",
        100,
        25,
    )


def test_evaluation_over_training_and_with_few_labels(finished):
    last = evaluate_run(finished, options=Options(("knn",)))
    options = Options(("knn", "online"), (0.1, 1.0), "all")
    result = evaluate_run(finished, options=options)
    assert json.loads((finished / "linear_eval.json").read_text()) == result
    steps = [point["step"] for point in result["curve"]]
    assert steps == [6, 9]
    assert result["step"] == 9
    assert result["knn_accuracy"] == last["knn_accuracy"]
    assert result["curve"][-1]["knn_accuracy"] == last["knn_accuracy"]
    row = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["online_accuracy"] == pytest.approx(row["eval/online_accuracy"])
    (few,) = result["label_fractions"]
    assert 10 <= few["num_train"] < 20
    assert (finished / "figures" / "accuracy.png").exists()
    with pytest.raises(UsageError, match="no checkpoint of step 5 .* there are 6, 9"):
        evaluate_run(finished, options=Options(steps=(5, 9)))


def test_a_diverging_run_is_told_in_one_line(tmp_path):
    config = small_config()
    config.method.update(metric="euclidean", normalize=False)
    config.optimizer.learning_rate = 1e30
    with pytest.raises(
        UsageError, match="diverged in step .* non-finite first.*learning_rate"
    ):
        pretrain(config, tmp_path / "run")


@pytest.mark.parametrize("steps", [4, 6])
def test_a_run_of_some_steps_is_the_beginning_of_the_whole(finished, tmp_path, steps):
    config = small_config()
    config.steps = steps  # epochs have three
    workdir = pretrain(config, tmp_path / "run")
    rows = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [3, steps]
    part = load_encoder(workdir, step=steps)[1]
    if steps == 6:
        whole = load_encoder(finished, step=steps)[1]
        jax.tree.map(np.testing.assert_array_equal, part, whole)


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_a_collapse_that_lasts_an_epoch_is_told_once(tmp_path, capsys, action):
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


def test_a_diverging_run_leaves_its_last_good_checkpoint(tmp_path):
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
