"""The history that a run continues."""

from types import SimpleNamespace

import numpy as np
import pytest

from isojax.runs.history import History
from isojax.training.epoch_recorder import open_history
from isojax.training.run_context import Position


@pytest.mark.parametrize(
    ("steps_done", "kept"),
    [
        (3, [1]),
        (5, [1]),
        (6, [1, 2]),
        (7, [1, 2]),
        (8, [1, 2, 3]),  # the last step, inside the third epoch
    ],
)
def test_epochs_after_the_position_are_dropped(tmp_path, steps_done, kept):
    whole = History(tmp_path)
    for epoch, step in enumerate((3, 6, 8), start=1):
        whole.append({"step": step, "epoch": epoch}, np.array([1.0, 2.0]))
    context = SimpleNamespace(workdir=tmp_path, last_step=8, steps_per_epoch=3)
    state = SimpleNamespace(correlation=np.diag([1.0, 2.0]))
    history = open_history(context, Position(state, steps_done))
    assert [row["epoch"] for row in history.rows] == kept
    assert [row["epoch"] for row in History(tmp_path).rows] == kept
