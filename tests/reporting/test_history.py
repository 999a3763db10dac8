import json

import numpy as np

from isojax.reporting import History, save_figures


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


def test_going_on_from_an_older_checkpoint_forgets_what_came_after(tmp_path):
    fill(tmp_path, 3)
    history = History(tmp_path, epochs=1)
    history.append({"epoch": 2, "train/loss": 7.0}, np.array([0.0, 1.0, 9.0]))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train/loss"] for line in lines] == [-0.1, 7.0]
    with np.load(tmp_path / "spectrum.npz") as spectrum:
        np.testing.assert_array_equal(spectrum["eigenvalues"][:, 2], [1, 9])


def test_the_figures_are_pictures(tmp_path):
    save_figures(tmp_path / "figures", fill(tmp_path, 2), evaluation_name="test")
    for name in ("learning", "spectrum", "participation_ratio"):
        content = (tmp_path / "figures" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
