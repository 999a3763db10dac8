"""A disk that takes no more ends no run and harms no older checkpoint."""

import json
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.reporting import History
from isojax.training import step_folder
from isojax.training.checkpoint import Checkpoints


@contextmanager
def full_disk():
    """No file may grow beyond a kilobyte, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "noticed",
    [
        "before",
        pytest.param(
            "in the middle",
            # TensorStore's other writes end after orbax has closed their loop.
            marks=pytest.mark.filterwarnings(
                "ignore::pytest.PytestUnraisableExceptionWarning"
            ),
        ),
    ],
)
def test_training_goes_on_and_the_next_save_succeeds(
    tmp_path, make_state, same, capsys, monkeypatch, noticed
):
    if noticed == "in the middle":
        monkeypatch.setattr(step_folder, "reserve_space", lambda path, size: None)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.wait()
        with full_disk():
            checkpoints.save(make_state(2))
            checkpoints.save(make_state(3))
            checkpoints.wait()
        told = capsys.readouterr().out
        assert told.count("\n") == 2
        assert "of step 2 could not be saved (" in told and "training goes on" in told
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]
        checkpoints.save(make_state(4))
    assert checkpoints.steps() == [1, 4]
    assert same(checkpoints.restore(make_state(0)), make_state(4))
    assert same(checkpoints.restore(make_state(0), step=1), make_state(1))


def test_a_run_whose_last_state_is_not_saved_does_not_end_well(saved, make_state):
    checkpoints = Checkpoints(saved)
    with full_disk():
        checkpoints.save(make_state(3))
        with pytest.raises(UsageError, match="the last state is not in .* make room"):
            checkpoints.close()
    assert checkpoints.steps() == [1, 2]


def test_the_error_that_ended_a_run_is_not_hidden_by_a_failed_save(saved, make_state):
    with pytest.raises(KeyboardInterrupt), Checkpoints(saved) as checkpoints:
        with full_disk():
            checkpoints.save(make_state(3))
            checkpoints.wait()
        raise KeyboardInterrupt


def test_metrics_that_could_not_be_written_are_written_later(tmp_path, capsys):
    history = History(tmp_path)
    rows = [{"epoch": n, "train/loss": "x" * 600} for n in range(1, 5)]
    history.append(rows[0], np.zeros(6))
    with full_disk():
        history.append(rows[1], np.zeros(6))
        history.append(rows[2], np.zeros(6))
    history.append(rows[3], np.zeros(6))
    assert capsys.readouterr().out.count("could not be saved (File too large)") == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert len(History(tmp_path).eigenvalues) == 4
