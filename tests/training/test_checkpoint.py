import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import data_parallel, processes
from isojax.errors import UsageError
from isojax.training import local_steps
from isojax.training.checkpoint import Checkpoints


def save(workdir, *states, **options):
    with Checkpoints(workdir, **options) as checkpoints:
        for state in states:
            checkpoints.save(state)
    return checkpoints


def assert_same(tree, expected):
    def same(a, b):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(same, tree, expected)


def test_a_state_comes_back_as_it_was(tmp_path, make_state):
    state = make_state(3)
    like = jax.eval_shape(lambda: state)
    assert_same(save(tmp_path, state).restore(like), state)


def test_narrow_floats_and_booleans_come_back_as_they_were(tmp_path, make_state):
    params = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.array([True, False])}
    state = make_state(1).replace(params=params)
    assert_same(save(tmp_path, state).restore(state), state)


def test_a_state_spread_over_devices_comes_back(tmp_path, make_state):
    state = make_state(3)
    assert_same(save(tmp_path, data_parallel.replicate(state)).restore(state), state)


def test_what_is_saved_is_the_state_of_that_moment(tmp_path, make_state):
    """The next step reuses the memory of a state that is still being written."""
    state = make_state(1)
    expected = jax.tree.map(jnp.copy, state)
    advance = jax.jit(
        lambda s: jax.tree.map(lambda x: x * 0, s.replace(key=s.step)), donate_argnums=0
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        advance(state)
    assert_same(checkpoints.restore(expected), expected)


def test_a_part_is_read_by_its_names(tmp_path, make_state):
    state = make_state(2)
    like = {"params": {"backbone": state.params["backbone"]}}
    assert_same(save(tmp_path, state).restore(like), like)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [5, 6]),
        ({"keep_last": 1}, [6]),
        ({"keep_last": 1, "keep_every_steps": 3}, [3, 6]),
        ({"keep_last": 2, "keep_every_steps": 2}, [2, 4, 5, 6]),
    ],
)
def test_the_newest_and_the_round_ones_are_kept(tmp_path, make_state, options, kept):
    states = [make_state(step, width=4) for step in range(1, 7)]
    checkpoints = save(tmp_path, *states, **options)
    assert checkpoints.steps() == kept
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        str(step) for step in kept
    }


def test_a_step_can_be_chosen(tmp_path, make_state):
    checkpoints = save(tmp_path, make_state(1), make_state(2))
    assert_same(checkpoints.restore(make_state(1), step=1), make_state(1))
    with pytest.raises(UsageError, match="no checkpoint of step 3 .*; there are 1, 2"):
        checkpoints.restore(make_state(1), step=3)


def test_an_existing_step_is_not_written_again(tmp_path, make_state, capsys):
    checkpoints = save(tmp_path, make_state(1), make_state(1))
    assert checkpoints.steps() == [1] and capsys.readouterr().out == ""


def test_a_folder_may_contain_no_checkpoint(tmp_path, make_state):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == []
    with pytest.raises(UsageError, match="there is no checkpoint in"):
        checkpoints.restore(make_state(1))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"width": 41},
            r"params/backbone/bias is \(40,\) float32 .* \(41,\) float32",
        ),
        ({"target": False}, r"target_params/backbone/bias is .* missing"),
    ],
)
def test_another_model_is_refused_and_nothing_set_aside(
    tmp_path, make_state, other, message
):
    checkpoints = save(tmp_path, make_state(1), make_state(2))
    with pytest.raises(UsageError, match=f"is of another model: {message}"):
        checkpoints.restore(make_state(1, **other), set_aside=True)
    assert checkpoints.steps() == [1, 2]


def test_a_missing_leaf_is_named(tmp_path, make_state):
    checkpoints = save(tmp_path, make_state(1, target=False))
    with pytest.raises(UsageError, match="target_params/backbone/bias is missing"):
        checkpoints.restore(make_state(1))


def test_other_processes_write_nothing(tmp_path, make_state, monkeypatch):
    monkeypatch.setattr(processes, "is_first_process", lambda: False)
    assert save(tmp_path, make_state(1)).steps() == []


def test_a_checkpoint_deleted_while_it_is_read_is_not_called_damaged(
    tmp_path, make_state, monkeypatch, capsys
):
    checkpoints = save(tmp_path, make_state(1), make_state(2))
    read_step = local_steps.read_step

    def read(folder, *arguments, **options):
        if folder.name == "2":
            shutil.rmtree(folder)  # by the run that is training
        return read_step(folder, *arguments, **options)

    monkeypatch.setattr(local_steps, "read_step", read)
    assert_same(checkpoints.restore(make_state(0)), make_state(1))
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_another_process_cannot_read_is_passed_over(
    tmp_path, make_state, monkeypatch, capsys
):
    checkpoints = save(tmp_path, make_state(1), make_state(2))
    answers = iter([True, False])
    monkeypatch.setattr(processes, "any_process", lambda here: next(answers))
    assert_same(checkpoints.restore(make_state(0)), make_state(1))
    assert "step 2" in capsys.readouterr().out


def test_a_run_that_ends_in_an_error_waits_for_its_checkpoint(
    tmp_path, make_state, monkeypatch
):
    write_step = local_steps.write_step

    def write_slowly(*arguments):
        time.sleep(0.5)
        write_step(*arguments)

    monkeypatch.setattr(local_steps, "write_step", write_slowly)
    with pytest.raises(KeyError), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.save(make_state(2))
        raise KeyError
    assert checkpoints.steps() == [1, 2]


def test_a_checkpoint_that_is_half_deleted_is_none(tmp_path, make_state, monkeypatch):
    monkeypatch.setattr(
        shutil, "rmtree", lambda *_, **__: None
    )  # killed at that moment
    checkpoints = save(tmp_path, make_state(1), make_state(2), keep_last=1)
    assert checkpoints.steps() == [2]
    assert (tmp_path / "checkpoints" / "1").exists()


def test_a_checkpoint_counts_once_its_record_is_written(tmp_path, make_state):
    checkpoints = save(tmp_path, make_state(1), make_state(2))
    newest = tmp_path / "checkpoints" / "2"
    (newest / "checksums.json").rename(tmp_path / "record")  # killed before it
    assert checkpoints.steps() == [1]
    assert_same(checkpoints.restore(make_state(0)), make_state(1))
    (tmp_path / "record").rename(newest / "checksums.json")
    assert checkpoints.steps() == [1, 2]
    assert_same(checkpoints.restore(make_state(0)), make_state(2))
