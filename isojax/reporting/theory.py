"""The population flow of a linear network beside a run's measured spectrum."""

from typing import Any, NamedTuple

import numpy as np

from isojax.reporting.array_cache import cached
from isojax.reporting.flow_fit import FLOOR, fit_in_child_process
from isojax.runs import layout
from isojax.runs.history import floor_eigenvalues
from isojax.runs.stored_run import StoredRun

_METRICS = ("euclidean", "cosine")
_FIRST_EPOCH = 2  # by then the random start is forgotten
_FEWEST_EPOCHS = 4  # from there on
_MOST_MODES = 512  # the flow takes time quadratic in them
_MOST_EPOCHS = 100


class Theory(NamedTuple):
    """A spectrum and the flow from its early state.

    Attributes:
      flow: name of the loss in `isojax.dynamics`.
      epochs: shape (e,).
      measured: eigenvalues of the correlation, ascending, (e, modes); relative to the
        largest where `is_relative`.
      predicted: the same of the flow that starts from the first row of `measured`.
      rate: of the flow's time that passes in an epoch, fitted.
      is_relative: whether the metric knows no absolute size.
    """

    flow: str
    epochs: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray
    rate: float
    is_relative: bool


def why_not(run: StoredRun) -> str | None:
    """Why the flow says nothing about a run; None where it applies."""
    method = run.config["method"]
    # Without `normalize` the shift has no effect.
    is_shifted = method["epsilon"] != 0 and method["normalize"]
    if method["predictor"] != "directpred" or is_shifted:
        return (
            "The flow is that of the closed-form predictor (W Wᵀ)^α without a shift "
            "(DirectPred with ε = 0); this run's predictor is another, so that no flow "
            "is known."
        )
    if method["metric"] not in _METRICS:
        return "No flow of this run's loss is known."
    if method["metric"] == "euclidean" and method["normalize"]:
        return (
            "With the Euclidean metric the flow draws every eigenvalue to 1; this run "
            "divides them by the largest (config.method.normalize), which the flow "
            "does not know."
        )
    if not run.spectrum.any(axis=1).all():
        return "The spectrum has vanished, and nothing moves from there."
    if np.sum(run.epochs >= _FIRST_EPOCH) <= _FEWEST_EPOCHS:
        return (
            "The run is too short: the flow starts from epoch "
            f"{_FIRST_EPOCH} and wants {_FEWEST_EPOCHS} more to be compared with."
        )
    if run.spectrum.shape[1] > _MOST_MODES:
        return f"The flow of more than {_MOST_MODES} modes takes minutes."
    return None


def predict(run: StoredRun) -> Theory | None:
    """Lays the flow over a run's spectrum; what was computed is kept in the folder.

    Args:
      run: one of which `why_not` says nothing.

    Returns:
      Spectrum and flow; None where the flow cannot be followed so far.
    """
    method = run.config["method"]
    is_relative = method["metric"] == "cosine"
    epochs, measured = _measure(run, is_relative)
    flow = _flow_name(method)
    try:
        fitted = cached(
            run.folder / layout.THEORY_FILE,
            {"measured": measured, "flow": np.array(flow)},
            lambda: fit_in_child_process(
                flow, method["alpha"], epochs, measured, is_relative
            ),
        )
    except FloatingPointError:
        return None
    return Theory(
        flow=flow,
        epochs=epochs,
        measured=measured,
        predicted=fitted["predicted"],
        rate=float(fitted["rate"]),
        is_relative=is_relative,
    )


def _measure(run: StoredRun, is_relative: bool) -> tuple[np.ndarray, np.ndarray]:
    epochs = run.epochs
    late = np.flatnonzero(epochs >= _FIRST_EPOCH)
    count = min(_MOST_EPOCHS, len(late))
    rows = late[np.linspace(0, len(late) - 1, count).astype(int)]
    spectrum = run.spectrum[rows].astype(np.float64)
    spectrum = floor_eigenvalues(spectrum, fraction=FLOOR, axis=1)
    if is_relative:
        spectrum = spectrum / spectrum.max(axis=1, keepdims=True)
    return epochs[rows], spectrum


def _flow_name(method: dict[str, Any]) -> str:
    if method["form"] != "standard":
        return f"iso_{method['metric']}"
    suffix = "" if method["stop_gradient"] else "_no_stop_gradient"
    return method["metric"] + suffix
