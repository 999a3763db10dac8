"""A full disk stops a run that saved nothing, and harms no older checkpoint."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from isojax.errors import UsageError
from isojax.runs.history import History
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
def test_training_continues_and_the_next_save_succeeds(
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
        assert "of step 2 could not be saved (" in told and "training continues" in told
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]
        checkpoints.save(make_state(4))
    assert checkpoints.steps() == [1, 4]
    assert same(checkpoints.restore(make_state(0)), make_state(4))
    assert same(checkpoints.restore(make_state(0), step=1), make_state(1))


def test_a_run_whose_last_state_is_not_saved_fails(saved, make_state):
    checkpoints = Checkpoints(saved)
    checkpoints.save(make_state(3))
    with full_disk():
        checkpoints.save(make_state(4))
        with pytest.raises(UsageError, match="the last .* resumes from step 3"):
            checkpoints.close()
    assert checkpoints.steps() == [2, 3]


def test_a_first_save_that_fails_stops_the_run(tmp_path, saved, make_state, capsys):
    for folder, kept in [
        (tmp_path / "new", "no checkpoint"),
        (saved, "that of step 2"),
    ]:
        folder.mkdir(exist_ok=True)
        checkpoints = Checkpoints(folder)
        before = checkpoints.steps()
        with full_disk(), pytest.raises(UsageError, match=f"the first .* {kept}"):
            checkpoints.save(make_state(3))
        assert checkpoints.steps() == before
    assert capsys.readouterr().out == ""  # the error alone


def test_a_run_that_cannot_save_is_not_started(tmp_path, make_state):
    checkpoints = Checkpoints(tmp_path)
    with full_disk(), pytest.raises(UsageError, match="File too large.* not started"):
        checkpoints.check_writable(make_state(0))
    folder = tmp_path / "checkpoints"
    assert list(folder.iterdir()) == []
    checkpoints.check_writable(make_state(0))
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.touch()
    with pytest.raises(UsageError, match="Not a directory.* not started"):
        checkpoints.check_writable(make_state(0))
    folder.unlink()
    folder.symlink_to(tmp_path / "missing")
    with pytest.raises(UsageError, match="not started"):
        checkpoints.check_writable(make_state(0))


@pytest.mark.parametrize(
    ("owner", "operation"),
    [
        (Path, "mkdir"),
        (Path, "replace"),
        (Path, "unlink"),
        (os, "fsync"),
        (os, "posix_fallocate"),
        (shutil, "rmtree"),
        (ocp.PyTreeCheckpointHandler, "save"),
    ],
)
def test_every_operation_of_a_save_is_tried_before_training(
    tmp_path, make_state, monkeypatch, owner, operation
):
    (tmp_path / "checkpoints").mkdir()

    def refuse(*args, ignore_errors=False, **kwargs):
        if not ignore_errors:
            raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(owner, operation, refuse)
    with pytest.raises(UsageError, match="refused.* not started"):
        Checkpoints(tmp_path).check_writable(make_state(0))


def test_the_error_that_ended_a_run_is_not_hidden_by_a_failed_save(saved, make_state):
    with pytest.raises(KeyboardInterrupt), Checkpoints(saved) as checkpoints:
        checkpoints.save(make_state(3))
        with full_disk():
            checkpoints.save(make_state(4))
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
    assert capsys.readouterr().out.count("metrics of this epoch were not saved") == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert len(History(tmp_path).eigenvalues) == 4
