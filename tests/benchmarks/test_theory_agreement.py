"""The comparison of a sweep's spectra with the flow of a linear network."""

import numpy as np
import pytest

from benchmarks.theory_agreement import main, measure_agreement
from isojax.dynamics import solve_eigenvalues
from isojax.runs.history import History
from isojax.runs.stored_run import read_run
from tests.reporting.folders import make_run

EPOCHS = 12
START = np.array([0.01, 0.05, 0.2, 0.5])


@pytest.fixture
def run_with(tmp_path):
    """Returns a function that makes a run with these eigenvalues of its modes."""

    def make(modes):
        folder = make_run(
            tmp_path / "run",
            epochs=EPOCHS,
            preset="isoloss_euclidean",
            method__alpha=1.0,
            method__normalize=False,
        )
        rows = History(folder, writes=False).rows
        for name in ("metrics.jsonl", "spectrum.npz"):
            (folder / name).unlink()
        history = History(folder)
        for row, values in zip(rows, modes, strict=True):
            order = np.argsort(values)
            history.append(row, values[order], np.eye(len(values))[:, order])
        return read_run(folder)

    return make


def flow():
    times = np.arange(float(EPOCHS))
    return np.float64(solve_eigenvalues("iso_euclidean", START, times, rate=0.1))


def test_a_run_that_follows_the_flow_agrees_with_it(run_with):
    found = measure_agreement(run_with(flow()))
    assert (found.order, found.growth) == (1, 1)
    assert found.error < 0.05 < found.no_flow
    assert found.sorted == pytest.approx(found.error)


def test_a_mode_that_overtakes_changes_the_order_but_not_the_sorted_error(run_with):
    modes, part = flow(), np.linspace(0, 1, EPOCHS)
    low, high = np.log(modes[:, 1]), np.log(modes[:, 2])
    modes[:, 1] = np.exp((1 - part) * low + part * high)
    modes[:, 2] = np.exp((1 - part) * high + part * low)
    found = measure_agreement(run_with(modes))
    assert found.order == pytest.approx(0.8)  # of four modes, two neighbours exchanged
    assert found.growth < 1
    assert found.sorted < found.error


def test_a_folder_without_runs_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["theory_agreement", f"--workdir={tmp_path}"])
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 2
    assert f"{tmp_path} is not a sweep" in capsys.readouterr().err
