"""Stopped and shortened runs resume bit for bit."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.stopping import StopRequest
from isojax.training import (
    epochs,
    load_encoder,
    pretrain,
)
from tests.training.metric_writers.events import read_curves
from tests.training.small_run import small_config

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.mark.long
def test_an_interrupted_run_resumes_bit_for_bit(finished, tmp_path, monkeypatch):
    workdir = tmp_path / "stopped"

    class StoppingStep(data_parallel.MappedStep):
        def __call__(self, state, *args, **kwargs):
            if int(state.step) == 7:  # in the middle of the last epoch
                raise KeyboardInterrupt
            return super().__call__(state, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data_parallel, "MappedStep", StoppingStep)
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


def patch_step(patch):
    mapped_step = data_parallel.MappedStep
    patch.setattr(data_parallel, "MappedStep", lambda step: mapped_step(crossing(step)))


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A config, and the spectrum of its whole run, in which modes cross."""
    config = small_config()
    config.update(epochs=6, checkpoint_every_epochs=6)
    with pytest.MonkeyPatch.context() as patch:  # undone before any other test runs
        patch_step(patch)
        whole = pretrain(config, tmp_path_factory.mktemp("runs") / "crossed")
    expected = dict(np.load(whole / "spectrum.npz"))
    assert (expected["tracked"] != expected["eigenvalues"]).any()
    return config, expected


@pytest.fixture
def crossing_step(monkeypatch):
    """Makes the runs of one test cross their modes."""
    patch_step(monkeypatch)


def assert_same_spectrum(workdir, expected):
    with np.load(workdir / "spectrum.npz") as spectrum:
        for name, array in expected.items():
            np.testing.assert_array_equal(spectrum[name], array, err_msg=name)


@pytest.mark.long
def test_modes_keep_their_order_after_a_stop_amid_an_epoch_and_a_kill(
    crossed, crossing_step, tmp_path, monkeypatch
):
    config, expected = crossed
    stop, workdir = StopRequest(), tmp_path / "run"
    finish_step = epochs.finish_step

    def stop_or_kill(context, result, step, bar):
        stop_requested = finish_step(context, result, step, bar)
        if stop.has_stopped_run and step == 14:
            raise KeyboardInterrupt
        return stop_requested or (not stop.has_stopped_run and step == 7)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "finish_step", stop_or_kill)
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
def test_modes_keep_their_order_in_a_fork_from_amid_an_epoch(
    crossed, crossing_step, tmp_path
):
    config, expected = crossed
    short = ConfigDict(config.to_dict())
    short.steps = 8
    source = pretrain(short, tmp_path / "short")
    pretrain(config, tmp_path / "long", fork_from=source)
    assert_same_spectrum(tmp_path / "long", expected)


@pytest.mark.parametrize("steps", [pytest.param(4, marks=pytest.mark.long), 6])
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
