import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import solve_eigenvalues
from isojax.reporting import flow_fit, theory
from isojax.reporting.flow_fit import FlowProblem, fit_flow
from isojax.runs.history import History
from isojax.runs.stored_run import read_run
from tests.reporting.folders import make_run

EUCLIDEAN = {"method__normalize": False, "preset": "isoloss_euclidean"}


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory):
    """A run whose spectrum is the flow itself, 0.1 of its time an epoch."""
    folder = make_run(
        tmp_path_factory.mktemp("runs") / "run",
        epochs=12,
        method__alpha=1.0,
        **EUCLIDEAN,
    )
    rows = History(folder, writes=False).rows
    start = np.array([0.01, 0.1, 0.5], np.float32)
    flow = solve_eigenvalues("iso_euclidean", start, np.arange(12.0), rate=0.1)
    for name in ("metrics.jsonl", "spectrum.npz"):
        (folder / name).unlink()
    history = History(folder)
    for row, eigenvalues in zip(rows, flow, strict=True):
        history.append(row, np.asarray(eigenvalues, np.float64))
    return read_run(folder)


def test_the_flow_lies_on_a_linear_networks_spectrum(linear_run):
    assert theory.unsupported_reason(linear_run) is None
    found = theory.predict(linear_run)
    assert (found.problem.flow, found.problem.is_relative) == ("iso_euclidean", False)
    assert found.rate == pytest.approx(0.1, rel=0.1)
    assert found.problem.epochs[0] == 2 and found.problem.measured.shape == (11, 3)
    np.testing.assert_allclose(found.predicted[0], found.problem.measured[0])
    np.testing.assert_allclose(found.predicted, found.problem.measured, rtol=0.1)


def test_the_flow_is_solved_once(linear_run, monkeypatch):
    first = theory.predict(linear_run)
    monkeypatch.setattr(theory, "fit_in_child_process", None)
    np.testing.assert_array_equal(theory.predict(linear_run).predicted, first.predicted)
    # Another spectrum asks for another solution.
    linear_run.history.eigenvalues[-1] = linear_run.history.eigenvalues[-1] + 0.1
    with pytest.raises(TypeError):
        theory.predict(linear_run)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preset": "byol"}, "has another predictor"),
        ({"preset": "directcopy"}, "has another predictor"),
        (
            {"preset": "isoloss", "method__epsilon": 0.1, "method__normalize": True},
            "has another predictor",
        ),
        ({"preset": "isoloss", "method__metric": "own"}, "No flow of this run's loss"),
        ({"preset": "isoloss_euclidean"}, "config.method.normalize"),
        ({"preset": "isoloss", "epochs": 3}, "too short"),
    ],
)
def test_the_reason_why_the_flow_does_not_apply(tmp_path, changes, reason):
    run = read_run(make_run(tmp_path / "run", **({"epochs": 9} | changes)))
    assert reason in theory.unsupported_reason(run)


def test_the_epochs_of_a_shortened_record_are_counted(tmp_path):
    run = read_run(make_run(tmp_path / "run", preset="isoloss", epochs=9))
    del run.history.rows[:-1], run.history.eigenvalues[:-1]
    assert "too short" in theory.unsupported_reason(run)


def test_a_shift_without_effect_changes_nothing(tmp_path):
    changes = {"method__epsilon": 0.1, "method__normalize": False}
    run = read_run(make_run(tmp_path / "run", preset="isoloss", epochs=9, **changes))
    assert theory.unsupported_reason(run) is None


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.long
def test_the_rate_of_a_collapse_is_found(rate):
    """Modes below the floor tell nothing, in the measurement as in the flow."""
    flow, epochs = "euclidean_no_stop_gradient", np.arange(2.0, 51.0)
    with jax.enable_x64(True):
        start = jnp.logspace(-1, 0, 8)
        times = jnp.asarray(rate * (epochs - 2))
        values = solve_eigenvalues(flow, start, times, alpha=0.5)
        spectrum = np.asarray(values) ** 2
    measured = np.maximum(spectrum, 1e-6 * spectrum.max(axis=1, keepdims=True))
    found = fit_flow(FlowProblem(flow, 0.5, epochs, measured, False))["rate"]
    assert abs(np.log10(found / rate)) < 0.03  # twenty rates a decade are tried


def test_the_report_says_where_the_flow_applies(linear_run, monkeypatch):
    from isojax.reporting.run_page import run_page

    page = run_page(linear_run)["theory"]
    assert page["flow"] == "iso_euclidean" and "<svg" in page["charts"][0].svg
    assert json.loads(page["rate"]) > 0


def test_a_report_imports_no_jax_and_leaves_the_environment(linear_run):
    """Also where it solves the flow, which another process does on the CPU."""
    program = (
        "import os, sys; from isojax.reporting import html_report\n"
        "before = dict(os.environ)\n"
        "html_report.write_report([sys.argv[1]])\n"
        "assert dict(os.environ) == before\n"
        "assert 'jax' not in sys.modules\n"
    )
    folder = linear_run.folder
    (folder / "theory.npz").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, check=True
    )
    assert (folder / "theory.npz").exists()


def test_a_flow_that_cannot_be_solved_is_no_theory(linear_run, monkeypatch):
    (linear_run.folder / "theory.npz").unlink(missing_ok=True)
    monkeypatch.setattr(flow_fit, "_from_bytes", lambda content: {})
    assert theory.predict(linear_run) is None
