import json
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import processes
from isojax.configs import digits
from isojax.errors import UsageError
from isojax.runs.config_file import load_config, load_forked_from
from isojax.runs.folder import open_run_folder
from isojax.runs.history import History
from isojax.training.checkpoint import Checkpoints
from isojax.training.fork import fork_run

STEPS = 5  # of an epoch


def make_config(**method):
    config = ConfigDict(digits.get_config().to_dict())
    config.epochs = 4
    config.method.update(method)
    return config


@pytest.fixture(params=["ema", "online"])
def source(request, tmp_path, make_state):
    """A run of two epochs, the second with a checkpoint, and a third without."""
    folder = tmp_path / "source"
    target = request.param == "ema"
    with open_run_folder(folder, make_config(target=request.param)):
        history = History(folder)
        for epoch in (1, 2, 3):
            history.append({"epoch": epoch, "step": epoch * STEPS}, np.zeros(8))
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(make_state(2 * STEPS, target=target))
    return folder


def fork(source, workdir, config, make_state, *, width=40, steps_per_epoch=STEPS):
    like = make_state(0, width=width, target=config.method.target == "ema")
    fork_run(
        source,
        workdir,
        config,
        like=like,
        steps_per_epoch=steps_per_epoch,
        last_step=config.steps or config.epochs * steps_per_epoch,
    )
    return like


@pytest.mark.parametrize("target", ["ema", "online"])
def test_the_whole_state_is_copied_and_the_fork_trains(
    source, tmp_path, make_state, target, same
):
    config, workdir = make_config(target=target, alpha=1.0), tmp_path / "new" / "run"
    config.epochs = 9
    like = fork(source, workdir, config, make_state)
    with open_run_folder(workdir, config):  # as the same command does
        state = Checkpoints(workdir).restore(like)
    expected = make_state(2 * STEPS, target=target == "ema")
    if target == "ema" and load_config(source).method.target == "online":
        expected = expected.replace(target_params=expected.params)
    assert same(state, expected)
    assert load_config(workdir).epochs == 9
    recorded = {"workdir": str(source), "step": 2 * STEPS}
    assert load_forked_from(workdir) == recorded
    assert json.loads((workdir / "config.json").read_text())["forked_from"] == recorded
    assert len(History(workdir, epochs=2).rows) == 2
    assert len(list(workdir.parent.iterdir())) == 1  # nothing is left beside it


def test_a_relative_source_is_recorded_as_an_absolute_one(
    source, tmp_path, make_state, monkeypatch
):
    config, workdir = make_config(), tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    fork(source.name, workdir, config, make_state)
    assert load_forked_from(workdir)["workdir"] == str(source)
    monkeypatch.chdir("/")
    fork(source, workdir, config, make_state)  # is known again


def test_only_the_first_process_writes_a_fork(
    source, tmp_path, make_state, monkeypatch
):
    monkeypatch.setattr(processes, "in_first_process", lambda function: None)
    fork(source, tmp_path / "run", make_config(), make_state)
    assert not (tmp_path / "run").exists()


def test_repeating_the_command_does_not_change_a_fork(source, tmp_path, make_state):
    config, workdir = make_config(), tmp_path / "run"
    fork(source, workdir, config, make_state)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(make_state(3 * STEPS))
    fork(source, workdir, config, make_state)
    assert Checkpoints(workdir).steps() == [2 * STEPS, 3 * STEPS]


def refusal(*arguments, **options):
    with pytest.raises(UsageError) as refused:
        fork(*arguments, **options)
    return str(refused.value)


def test_an_invalid_fork_is_refused_and_writes_nothing(source, tmp_path, make_state):
    config, workdir = make_config(), tmp_path / "run"
    told = refusal(source, workdir, config, make_state, width=41)
    assert re.search(r"\(40,\) float32 .* \(41,\) float32", told)
    told = refusal(source, workdir, config, make_state, steps_per_epoch=7)
    assert re.search("has 5 steps .* has 7; set config.batch_size", told)
    config.epochs = 2
    told = refusal(source, workdir, config, make_state)
    assert re.search("at step 10 .* at step 10; .* config.epochs", told)
    config.steps = 4
    assert "ends at step 4" in refusal(source, workdir, config, make_state)
    assert "no run in" in refusal(tmp_path / "nothing", workdir, config, make_state)
    assert not workdir.exists()


def test_the_folder_of_another_run_is_refused(source, tmp_path, make_state):
    config, workdir = make_config(), tmp_path / "run"
    with open_run_folder(workdir, config):
        pass
    told = refusal(source, workdir, config, make_state)
    assert f"--workdir={workdir}" in told and f"not a fork of {source}" in told
    assert "not a fork of" in refusal(source, source, config, make_state)


def test_a_fork_needs_only_the_shapes_of_its_state(source, tmp_path, make_state):
    like = jax.eval_shape(lambda: make_state(0))
    workdir = tmp_path / "run"
    fork_run(
        source, workdir, make_config(), like=like, steps_per_epoch=STEPS, last_step=20
    )
    assert Checkpoints(workdir).steps() == [2 * STEPS]


def test_a_run_cut_in_its_first_epoch_may_be_forked(tmp_path, make_state):
    config, source = make_config(), tmp_path / "cut"
    config.steps = 3
    with open_run_folder(source, config):
        History(source).append({"epoch": 1, "step": 3}, np.zeros(8))
        with Checkpoints(source) as checkpoints:
            checkpoints.save(make_state(3))
    config.steps = 0
    fork(source, tmp_path / "run", config, make_state)
    assert Checkpoints(tmp_path / "run").steps() == [3]
