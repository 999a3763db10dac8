"""Population flow of a linear network's weights, for inputs of any covariance.

z = W x with x ~ N(0, S) and views whose noise has the covariance sigma_i^2 S. The
projections have the covariance C = W S W^T = U diag(v) U^T, and the predictor is
W_P = C^alpha = U diag(lam) U^T. A view is Gaussian given its projection z1, with the
mean S W^T C^{-1} z1, so the expected gradient needs no averages other than those of
`isojax.dynamics.flow`:

  dW/dt = rate (U diag(g) U^T W S - kappa W),

where 2 alpha rate g_m is the growth rate of lam_m for uncorrelated inputs. Unlike for
S = I, the singular vectors of W move. The cosine losses other than the iso-cosine loss
conserve the sum of all squared weights.
"""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.arguments import (
    check_choice,
    check_covariance,
    check_finite,
    check_not_negative,
    check_positive,
    check_times,
    check_view_noise,
    check_weights,
    flow_settings,
)
from isojax.dynamics.flow import FLOWS, Flow, growth_rates

_STEPS = 4096


def solve_network(
    name: str,
    weights: Array,
    times: Array,
    *,
    input_covariance: Array | None = None,
    alpha: float = 1.0,
    rate: float = 1.0,
    view_noise: tuple[float, float] = (0.0, 0.0),
    weight_decay: float = 0.0,
) -> Array:
    """Solves the gradient flow of a linear network's weights on the expected loss.

    Supports `jit` and `vmap`. For uncorrelated inputs, `solve_eigenvalues` gives the
    eigenvalues of the same flow faster.

    Args:
      name: name of the loss, one of `flow.FLOWS`.
      weights: weights W at time 0, shape (M, N); converted to float32 if narrower.
      times: times of the solution, nonnegative and increasing, shape (steps,).
      input_covariance: covariance of the inputs, symmetric and positive definite,
        shape (N, N); None for the identity.
      alpha: exponent of the predictor W_P = (W input_covariance W^T)^alpha.
      rate: learning rate, which sets the unit of time.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views, in
        units of the inputs: the noise has the covariance sigma^2 input_covariance.
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2.

    Returns:
      W at `times`, shape (steps, M, N), in the dtype of `weights`. In float64 the error
      is below 1e-8 of the largest weight, in float32 below 1e-4.

    Raises:
      ValueError: if `name` is unknown, `weights` is not a finite matrix,
        `input_covariance` is not a symmetric positive definite matrix of the right
        size, or another argument is invalid for `solve_eigenvalues`. Traced values are
        not checked.
      FloatingPointError: if the weights diverge, or the solver reaches its limit of
        steps before the last time. Under a transformation, where no error can be
        raised, the solution is not finite from that time on.

    Example:
      >>> weights, times = 0.1 * jnp.eye(2), jnp.array([0.0, 20.0])
      >>> covariance = jnp.diag(jnp.array([1.0, 4.0]))
      >>> solution = solve_network(
      ...     "iso_euclidean", weights, times, input_covariance=covariance
      ... )
      >>> print(abs(solution[-1]).round(2))
      [[1.  0. ]
       [0.  0.5]]

    Source: Halvagal et al. 2023, Theorems 1 and 2 averaged over Gaussian inputs.
    """
    check_choice("name", name, FLOWS)
    check_positive("alpha", alpha)
    check_positive("rate", rate)
    check_view_noise(view_noise)
    check_not_negative("weight_decay", weight_decay)
    weights = check_weights(weights)
    weights = weights.astype(jnp.promote_types(weights.dtype, jnp.float32))
    times = check_times(times, weights.dtype)
    settings = flow_settings(
        weights.dtype,
        alpha=alpha,
        rate=rate,
        view_noise=view_noise,
        weight_decay=weight_decay,
    )
    covariance = check_covariance(input_covariance, weights)
    if covariance is None:
        covariance = jnp.eye(weights.shape[1], dtype=weights.dtype)
    solution = _integrate(FLOWS[name], weights, times, covariance, settings)
    if not isinstance(solution, jax.core.Tracer):
        rows = np.asarray(solution).reshape(len(times), -1)
        limits = f"the weights diverge, or {_STEPS:,} steps are too few"
        check_finite(name, rows, np.asarray(times), limits)
    return solution


@jax.jit
@jax.default_matmul_precision("highest")
def _integrate(
    flow: Flow,
    weights: Array,
    times: Array,
    covariance: Array,
    settings: dict[str, Any],
) -> Array:
    def velocity(
        t: Any, weights: Array, args: tuple[Flow, Array, dict[str, Any]]
    ) -> Array:
        flow, covariance, settings = args
        return network_velocity(flow, weights, covariance, **settings)

    # Between its steps the solver interpolates with an error of 1,000 tolerances.
    tolerance = 1e-12 if weights.dtype == jnp.float64 else 1e-6
    # In proportion to the weights, whose unit is the inverse of that of the inputs.
    largest = jnp.max(jnp.abs(weights))
    largest = jnp.where(largest > 0, largest, 1)  # a tolerance of 0 would give NaN
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance * largest)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Dopri8(),
        t0=jnp.zeros((), times.dtype),
        t1=times[-1],
        dt0=None,
        y0=weights,
        args=(flow, covariance, settings),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=controller,
        max_steps=_STEPS,
        throw=False,
    )
    ys: Any = solution.ys
    return ys


def network_velocity(
    flow: Flow,
    weights: Array,
    covariance: Array,
    *,
    alpha: float,
    rate: float,
    view_noise: tuple[float, float] | None,
    weight_decay: float,
) -> Array:
    """Computes dW/dt without checking arguments; shape (M, N)."""
    correlated = weights @ covariance
    correlation = correlated @ weights.T
    v, u = jnp.linalg.eigh((correlation + correlation.T) / 2)
    v = jnp.maximum(v, 0)  # the matrix is positive semidefinite up to rounding
    growth = growth_rates(flow, v**alpha, v, view_noise)
    gradient = (u * growth[None, :]) @ (u.T @ correlated)
    return rate * (gradient - weight_decay * weights)
