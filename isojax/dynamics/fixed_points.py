"""Where the population flow of the eigenvalues ends, and whether this is stable.

The Euclidean losses have closed forms. With c = 1 + sigma_1^2 and weight decay kappa,
the growth rate of lam is the polynomial below. A mode ends at its largest root, or
vanishes if it starts below the lower root or if there is none:

  iso_euclidean               1 - kappa - c lam
  euclidean                   -(c lam^2 - lam + kappa)
  euclidean_no_stop_gradient  -(c lam^2 - 2 lam + 1 + sigma_2^2 + kappa)
  euclidean_no_predictor      -(sigma_1^2 + kappa), nothing moves if it is zero

The cosine losses make eigenvalues equal, and their conservation laws give the common
value: sum_m v_m for "cosine" and for "cosine_no_predictor" with view noise, and
sum_m lam_m v_m for "iso_cosine". "cosine_no_stop_gradient" conserves sum_m v_m too.
Without view noise all modes but the largest vanish. With noise several can survive, and
the flow is solved until it ends. The same holds for "cosine_near_uniform", which
conserves no known sum. With weight decay all these sums decay to zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.flow import check_flow, eigenvalue_flow
from isojax.dynamics.solve import solve_eigenvalues

# A mode that decays and is weaker than this share of the strongest one has vanished.
_VANISHED = 1e-6
_SMALLEST = 1e-200  # the velocity of weaker modes would underflow
# Largest growth rate of a mode at the end of a flow; the mean variance of a cosine flow
# is 1.
_AT_REST = 1e-10
_TIMES = (1e2, 1e3, 1e4, 1e5, 1e6)
_ZERO_RATE = 1e-6  # of the largest rate


@dataclass(frozen=True)
class FixedPoint:
    """Where a flow ends. Converts to the array of its eigenvalues.

    Attributes:
      eigenvalues: lam at the end, zero for modes that vanish, shape (M,).
      stability: "stable" if small deviations decay, other than those that change the
        conserved sum of a cosine loss; "unstable" if one grows; "marginal" if one
        neither grows nor decays to first order; "collapse" if all modes vanish, so that
        there is no fixed point with positive eigenvalues; "partial collapse" if some
        do.
      rates: growth rates of small deviations at rate = 1, which are the eigenvalues of
        the Jacobian of the flow, ascending, shape (M,). Vanished modes are evaluated
        at 1e-6 of the largest eigenvalue; after a collapse, all at 1e-6.
    """

    eigenvalues: Array
    stability: str
    rates: Array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns the eigenvalues as a NumPy array."""
        return np.array(self.eigenvalues, dtype=dtype)


def fixed_point(
    name: str,
    eigenvalues: Array,
    *,
    alpha: float = 1.0,
    view_noise: tuple[float, float] = (0.0, 0.0),
    weight_decay: float = 0.0,
) -> FixedPoint:
    """Computes where the population flow from the given eigenvalues ends.

    Computed in float64, for concrete arguments only (not under `jit`).

    Args:
      name: name of the loss, one of `flow.FLOWS`.
      eigenvalues: lam at time 0, positive, shape (M,).
      alpha: exponent of the predictor W_P = (W W^T)^alpha.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views.
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2, nonnegative.

    Returns:
      The eigenvalues at the end, in the dtype of `eigenvalues`, and their stability.
      `numpy.asarray` converts the result to the eigenvalues, shape (M,).

    Raises:
      ValueError: if an argument is invalid for `eigenvalue_flow`.
      FloatingPointError: if a flow without closed form does not come to rest by time
        1e6.

    Example:
      >>> end = fixed_point("cosine", jnp.array([0.1, 0.5]))
      >>> [round(float(lam), 3) for lam in end.eigenvalues], end.stability
      ([0.3, 0.3], 'stable')
      >>> fixed_point("euclidean_no_stop_gradient", jnp.array([0.1, 0.5])).stability
      'collapse'

    Source: Halvagal et al. 2023, Theorems 1 and 2, appendix C.
    """
    lam = check_flow(name, eigenvalues, alpha, 1.0, view_noise, weight_decay)
    noise = float(view_noise[0]), float(view_noise[1])
    start = np.asarray(lam, np.float64)
    with jax.enable_x64(True):
        end = _ENDS[name](start, float(alpha), noise, float(weight_decay))
        rates = _rates(name, end, float(alpha), noise, float(weight_decay))
    is_cosine = "cosine" in name
    conserved = int(is_cosine and weight_decay == 0)
    # The rates of the cosine losses are inversely proportional to the variances.
    unit = np.mean(start ** (1 / float(alpha))) if is_cosine else 1.0
    return FixedPoint(
        jnp.asarray(end, lam.dtype),
        _stability(end, rates * unit, conserved),
        jnp.asarray(rates, lam.dtype),
    )


_Noise = tuple[float, float]


def _euclidean(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    return _largest_root(start, 1 + noise[0] ** 2, 1, decay)


def _iso_euclidean(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    return np.full_like(start, max(1 - decay, 0) / (1 + noise[0] ** 2))


def _euclidean_no_stop_gradient(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    return _largest_root(start, 1 + noise[0] ** 2, 2, 1 + noise[1] ** 2 + decay)


def _euclidean_no_predictor(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    return np.zeros_like(start) if noise[0] ** 2 + decay > 0 else start


def _cosine(start: np.ndarray, alpha: float, noise: _Noise, decay: float) -> np.ndarray:
    return _equal(start, 1 / alpha, decay)


def _iso_cosine(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    return _equal(start, 1 + 1 / alpha, decay)


def _cosine_no_predictor(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    if decay == 0 and noise == (0.0, 0.0):
        return start
    return _equal(start, 1 / alpha, decay)


def _cosine_no_stop_gradient(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    if decay > 0:
        return np.zeros_like(start)
    if noise != (0.0, 0.0):
        return _end_of_flow("cosine_no_stop_gradient", start, alpha, noise)
    is_largest = start == start.max()
    total = np.sum(start ** (1 / alpha))
    return np.where(is_largest, (total / is_largest.sum()) ** alpha, 0)


def _cosine_near_uniform(
    start: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    if decay > 0:
        return np.zeros_like(start)
    return _end_of_flow("cosine_near_uniform", start, alpha, noise)


def _largest_root(start: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Returns where a mode with the growth rate -(a lam^2 - b lam + c) ends."""
    discriminant = b**2 - 4 * a * c
    if discriminant < 0:
        return np.zeros_like(start)
    low, high = ((b + sign * np.sqrt(discriminant)) / (2 * a) for sign in (-1, 1))
    return np.where(start > low, high, np.where(start == low, low, 0))


def _equal(start: np.ndarray, power: float, decay: float) -> np.ndarray:
    """Returns equal eigenvalues with the same sum of powers, or zero with decay."""
    mean = np.mean(start**power) if decay == 0 else 0.0
    return np.full_like(start, mean ** (1 / power))


def _end_of_flow(
    name: str, start: np.ndarray, alpha: float, noise: _Noise
) -> np.ndarray:
    """Solves the flow of a cosine loss until every mode is at rest or vanishes."""
    settings: dict[str, Any] = {"alpha": alpha, "view_noise": noise}
    # A cosine loss does not depend on the scale, which only sets the unit of time.
    scale = np.mean(start ** (1 / alpha)) ** alpha
    for time in _TIMES:
        times = jnp.array([time])
        (end,) = solve_eigenvalues(name, jnp.asarray(start / scale), times, **settings)
        lam = np.maximum(np.asarray(end), _SMALLEST)
        growth = np.asarray(eigenvalue_flow(name, lam, **settings)) / lam
        has_vanished = (growth < 0) & (lam < _VANISHED * lam.max())
        if np.all(has_vanished | (np.abs(growth) < _AT_REST)):
            return np.where(has_vanished, 0, scale * lam)
    raise FloatingPointError(
        f"the flow of {name!r} is not at rest at time {_TIMES[-1]:g}; start from "
        "eigenvalues that are closer to each other"
    )


def _rates(
    name: str, end: np.ndarray, alpha: float, noise: _Noise, decay: float
) -> np.ndarray:
    """Returns the eigenvalues of the Jacobian of the flow, ascending."""
    point = np.maximum(end, _VANISHED * (end.max() or 1))
    settings: dict[str, Any] = {
        "alpha": alpha,
        "view_noise": noise,
        "weight_decay": decay,
    }
    if end.max() == 0:
        return np.sort(np.asarray(eigenvalue_flow(name, point, **settings)) / point)
    flow = jax.jit(lambda lam: eigenvalue_flow(name, lam, **settings))
    jacobian = np.array(jax.jacfwd(flow)(jnp.asarray(point)))
    # A vanishing mode leaves at its growth rate, whatever the others do.
    growth = np.asarray(flow(jnp.asarray(point))) / point
    vanished = end == 0
    jacobian[vanished] = np.diag(growth)[vanished]
    return np.sort(np.linalg.eigvals(jacobian).real)


def _stability(end: np.ndarray, rates: np.ndarray, conserved: int) -> str:
    """Describes the end; `conserved` is the number of rates that a sum makes zero."""
    if end.max() == 0:
        return "collapse"
    size = max(_ZERO_RATE * np.abs(rates).max(), _AT_REST)
    if np.any(rates > size):
        return "unstable"
    if np.sum(np.abs(rates) <= size) > conserved:
        return "marginal"
    return "stable" if end.min() > 0 else "partial collapse"


_ENDS: dict[str, Callable[[np.ndarray, float, _Noise, float], np.ndarray]] = {
    "euclidean": _euclidean,
    "iso_euclidean": _iso_euclidean,
    "euclidean_no_stop_gradient": _euclidean_no_stop_gradient,
    "euclidean_no_predictor": _euclidean_no_predictor,
    "cosine": _cosine,
    "cosine_near_uniform": _cosine_near_uniform,
    "iso_cosine": _iso_cosine,
    "cosine_no_stop_gradient": _cosine_no_stop_gradient,
    "cosine_no_predictor": _cosine_no_predictor,
}
