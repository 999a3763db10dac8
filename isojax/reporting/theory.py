"""Compares a run's spectrum with the population flow of a linear network."""

from typing import Any, NamedTuple

import numpy as np

from isojax.reporting.array_cache import cached
from isojax.reporting.flow_fit import FLOOR, FlowProblem, fit_in_child_process
from isojax.runs import layout
from isojax.runs.history import floor_eigenvalues
from isojax.runs.stored_run import StoredRun

_METRICS = ("euclidean", "cosine")
_FIRST_EPOCH = 2  # earlier epochs depend on the random initialisation
_MIN_EPOCHS = 4  # after the first
_MAX_MODES = 512  # the time to solve the flow is quadratic in them
_MAX_EPOCHS = 100


class Theory(NamedTuple):
    """A spectrum and the flow from its early state.

    Attributes:
      problem: the flow and the measured eigenvalues of the correlation.
      predicted: the same eigenvalues for the flow that starts from the first measured
        row, shape (e, modes).
      rate: the flow's time per epoch, which is fitted.
    """

    problem: FlowProblem
    predicted: np.ndarray
    rate: float


def unsupported_reason(run: StoredRun) -> str | None:
    """Returns why the flow does not apply to a run; None if it applies."""
    method = run.config["method"]
    # Without `normalize` the shift has no effect.
    is_shifted = method["epsilon"] != 0 and method["normalize"]
    if method["predictor"] != "directpred" or is_shifted:
        return (
            "The flow is known for the closed-form predictor (W Wᵀ)^α without a shift "
            "(DirectPred with ε = 0) only; this run has another predictor."
        )
    if method["metric"] not in _METRICS:
        return "No flow of this run's loss is known."
    if method["metric"] == "euclidean" and method["normalize"]:
        return (
            "With the Euclidean metric every eigenvalue of the flow converges to 1. "
            "This run divides the eigenvalues by the largest "
            "(config.method.normalize), which the flow does not model."
        )
    if not run.spectrum.any(axis=1).all():
        return "The spectrum has vanished, and zero is a fixed point of the flow."
    if np.sum(run.epochs >= _FIRST_EPOCH) <= _MIN_EPOCHS:
        return (
            "The run is too short: the flow starts from epoch "
            f"{_FIRST_EPOCH} and needs more than {_MIN_EPOCHS} epochs from there."
        )
    if run.spectrum.shape[1] > _MAX_MODES:
        return f"The flow of more than {_MAX_MODES} modes takes minutes to solve."
    return None


def predict(run: StoredRun) -> Theory | None:
    """Fits the flow to a run's spectrum, and stores the result in the run's folder.

    Args:
      run: a run for which `unsupported_reason` returns None.

    Returns:
      Spectrum and flow; None if the flow cannot be solved.
    """
    problem = flow_problem(run, run.spectrum)
    try:
        fitted = cached(
            run.folder / layout.THEORY_FILE,
            {"measured": problem.measured, "flow": np.array(problem.flow)},
            lambda: fit_in_child_process(problem),
        )
    except FloatingPointError:
        return None
    return Theory(problem, fitted["predicted"], float(fitted["rate"]))


def flow_problem(run: StoredRun, spectrum: np.ndarray) -> FlowProblem:
    """Returns the flow of a run's loss with the eigenvalues that it has to explain.

    Args:
      run: a run for which `unsupported_reason` returns None.
      spectrum: the run's eigenvalues of every epoch, ascending or in the order of the
        modes, shape (epochs, modes).

    Returns:
      The problem, with at most 100 epochs from the second one.
    """
    method, epochs = run.config["method"], run.epochs
    is_relative = method["metric"] == "cosine"
    late = np.flatnonzero(epochs >= _FIRST_EPOCH)
    count = min(_MAX_EPOCHS, len(late))
    rows = late[np.linspace(0, len(late) - 1, count).astype(int)]
    measured = spectrum[rows].astype(np.float64)
    measured = floor_eigenvalues(measured, fraction=FLOOR, axis=1)
    if is_relative:
        measured = measured / measured.max(axis=1, keepdims=True)
    return FlowProblem(
        _flow_name(method), method["alpha"], epochs[rows], measured, is_relative
    )


def _flow_name(method: dict[str, Any]) -> str:
    if method["form"] != "standard":
        return f"iso_{method['metric']}"
    suffix = "" if method["stop_gradient"] else "_no_stop_gradient"
    return method["metric"] + suffix
