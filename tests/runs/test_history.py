import json
from pathlib import Path

import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.reporting.figures import save_figures
from isojax.runs.history import History


def fill(workdir, epochs):
    history = History(workdir)
    for epoch in range(1, epochs + 1):
        row = {
            "epoch": epoch,
            "train/loss": -0.1 * epoch,
            "train/participation_ratio": 2.0,
            "eval/online_accuracy": 0.5,
        }
        history.append(row, np.array([0.0, 1.0, epoch]))
    return history


def test_what_was_written_is_read_again(tmp_path):
    fill(tmp_path, 3)
    history = History(tmp_path)
    np.testing.assert_allclose(history.column("train/loss"), [-0.1, -0.2, -0.3])
    np.testing.assert_array_equal(history.eigenvalues[2], [0, 1, 3])


def test_resuming_from_an_older_checkpoint_drops_later_epochs(tmp_path):
    fill(tmp_path, 3)
    history = History(tmp_path, epochs=1)
    history.append({"epoch": 2, "train/loss": 7.0}, np.array([0.0, 1.0, 9.0]))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train/loss"] for line in lines] == [-0.1, 7.0]
    with np.load(tmp_path / "spectrum.npz") as spectrum:
        np.testing.assert_array_equal(spectrum["eigenvalues"][:, 2], [1, 9])


def test_epochs_that_were_not_evaluated_are_nan_in_a_column(tmp_path):
    history = fill(tmp_path, 3)
    for row in history.rows[::2]:
        del row["eval/online_accuracy"]
    column = history.column("eval/online_accuracy")
    np.testing.assert_array_equal(np.isnan(column), [True, False, True])
    assert history.last_value("eval/online_accuracy") == column[1]
    assert history.last_value("eval/nothing") is None
    save_figures(tmp_path / "figures", history, evaluation_name="test")
    assert (tmp_path / "figures" / "learning.png").exists()


def test_the_figures_are_pictures(tmp_path):
    save_figures(tmp_path / "figures", fill(tmp_path, 2), evaluation_name="test")
    for name in ("learning", "spectrum", "participation_ratio"):
        content = (tmp_path / "figures" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
    assert not (tmp_path / "figures" / "modes.png").exists()


def correlations(epochs, dim=5):
    """One fixed and one turning eigenbasis, mixed, whose eigenvalues cross."""
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    turn = rng.normal(size=(dim, dim))
    for epoch in range(epochs):
        values = 2 + np.cos(epoch / 2 + np.arange(dim))
        c = u * values @ u.T + 0.01 * epoch * (turn + turn.T)
        yield epoch + 1, c


def follow(history, epochs, start=0):
    for epoch, c in list(correlations(epochs))[start:]:
        history.append({"epoch": epoch}, *np.linalg.eigh(c))


def saved(workdir):
    with np.load(workdir / "spectrum.npz") as spectrum:
        return dict(spectrum)


def test_tracked_modes_are_the_eigenvalues_in_another_order(tmp_path):
    follow(History(tmp_path), 8)
    arrays = saved(tmp_path)
    np.testing.assert_array_equal(arrays["epoch"], range(1, 9))
    np.testing.assert_array_equal(
        np.sort(arrays["tracked"], axis=1), arrays["eigenvalues"]
    )
    assert (arrays["tracked"] != arrays["eigenvalues"]).any()


@pytest.mark.parametrize("checkpoint", [4, 6])
def test_modes_are_followed_through_a_restart(tmp_path, checkpoint):
    """From the last epoch's eigenvectors, or from those of an earlier checkpoint."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    follow(History(tmp_path / "whole"), 10)
    follow(History(tmp_path / "stopped"), 6)
    _, correlation = list(correlations(10))[checkpoint - 1]
    resumed = History(tmp_path / "stopped", epochs=checkpoint, correlation=correlation)
    follow(resumed, 10, start=checkpoint)
    whole, stopped = saved(tmp_path / "whole"), saved(tmp_path / "stopped")
    assert set(whole) == set(stopped) == {"epoch", "eigenvalues", "tracked", "modes"}
    for name, array in whole.items():
        np.testing.assert_array_equal(stopped[name], array, err_msg=name)


@pytest.mark.parametrize("kept", [{4}, {2, 4}])
def test_modes_are_followed_from_a_checkpoint_amid_an_epoch(tmp_path, kept):
    """Whose own eigenvectors are already those of the next epoch."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    follow(History(tmp_path / "whole"), 10)
    history = History(tmp_path / "stopped")
    for epoch in sorted({2, 4}):  # stopped in epochs 3 and 5, and killed in epoch 8
        follow(history, epoch, start=len(history.rows))
        history.keep_modes({epoch} | (kept if epoch == 4 else set()))
        _, correlation = list(correlations(10))[epoch]
        history = History(tmp_path / "stopped", epochs=epoch, correlation=correlation)
    follow(history, 7, start=4)
    assert set(saved(tmp_path / "stopped")["kept_epochs"]) == kept
    for epoch in sorted(kept, reverse=True):  # the newest checkpoint, then an older one
        _, correlation = list(correlations(10))[epoch]
        resumed = History(tmp_path / "stopped", epochs=epoch, correlation=correlation)
        follow(resumed, 10, start=epoch)
        for name, array in saved(tmp_path / "whole").items():
            np.testing.assert_array_equal(
                saved(tmp_path / "stopped")[name], array, err_msg=name
            )


def test_modes_may_be_followed_from_some_epoch_on(tmp_path):
    fill(tmp_path, 2)
    assert set(saved(tmp_path)) == {"epoch", "eigenvalues"}  # as ever
    history = History(tmp_path, epochs=2)
    assert not history.is_tracked
    values = np.array([0.0, 1.0, 2.0])
    row = {name: 1.0 for name in history.rows[0]} | {"epoch": 3}
    history.append(row, values, np.eye(3))
    assert History(tmp_path).is_tracked
    tracked = saved(tmp_path)["tracked"]
    assert np.isnan(tracked[:2]).all()
    np.testing.assert_array_equal(tracked[2], values)
    save_figures(tmp_path / "figures", history, evaluation_name="test")
    assert (tmp_path / "figures" / "modes.png").stat().st_size > 5000
    history.append(row | {"epoch": 4}, values)
    history = History(tmp_path, epochs=4)
    history.append(row | {"epoch": 5}, values, np.eye(3)[:, [1, 0, 2]])
    tracked = saved(tmp_path)["tracked"]
    assert np.isnan(tracked[3]).all()
    np.testing.assert_array_equal(tracked[4], values)


def recorded(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def test_a_history_that_starts_later_is_cut_by_epoch(tmp_path):
    follow(History(tmp_path), 8, start=4)
    history = History(tmp_path, epochs=6, correlation=list(correlations(6))[-1][1])
    follow(history, 8, start=6)
    assert recorded(tmp_path) == saved(tmp_path)["epoch"].tolist() == [5, 6, 7, 8]


def test_without_a_number_of_epochs_nothing_is_cut(tmp_path):
    follow(History(tmp_path), 3)
    assert len(History(tmp_path).rows) == len(recorded(tmp_path)) == 3


@pytest.mark.parametrize("name", ["metrics.jsonl", "spectrum.npz"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_files_that_disagree_are_refused_and_kept(tmp_path, name, damage):
    follow(History(tmp_path), 3)
    damage(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"metrics\.jsonl or spectrum\.npz"):
        History(tmp_path, epochs=2)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_line_cut_by_a_kill_is_not_damage(tmp_path):
    follow(History(tmp_path), 3)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epo')
    History(tmp_path, epochs=3, correlation=np.eye(5))
    assert recorded(tmp_path) == [1, 2, 3]
