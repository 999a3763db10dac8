"""Solutions of the population flow, in closed form where there is one."""

from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.arguments import check_vector
from isojax.dynamics.closed_forms import CLOSED_FORMS, has_closed_form
from isojax.dynamics.flow import check_flow, log_flow

_MAX_STEPS = 4096


def solve_eigenvalues(
    name: str,
    eigenvalues: Array,
    times: Array,
    *,
    alpha: float = 1.0,
    rate: float = 1.0,
    view_noise: tuple[float, float] = (0.0, 0.0),
    weight_decay: float = 0.0,
) -> Array:
    """Eigenvalues of the predictor over time while a linear network learns.

    Solves `eigenvalue_flow`, of which the arguments are explained there. Can be jitted,
    mapped over initial eigenvalues, `alpha`, `rate` and `weight_decay`, and
    differentiated in reverse with respect to them.

    Args:
      name: of the loss, one of `flow.FLOWS`.
      eigenvalues: lam at time 0, positive, shape (dim,).
      times: when to report, increasing, none negative, shape (steps,).
      alpha: exponent of the predictor W_P = (W W^T)^alpha.
      rate: learning rate, which sets the unit of time.
      view_noise: standard deviations sigma_1 and sigma_2 of the views' noise.
      weight_decay: kappa of the penalty kappa/2 |W|^2.

    Returns:
      lam at those times, shape (steps, dim), in the dtype of `eigenvalues`; relative
      error of a closed form 1e-11 in float64, of the others 1e-6; in float32 1e-3. Of
      the cosine loss it is 1e-3 where only two modes lie four decades apart, 0.1 where
      five, and still more beyond.

    Raises:
      ValueError: for the reasons of `eigenvalue_flow`, or if the times are no vector,
        do not increase, or begin below 0. Traced values are not checked.
      FloatingPointError: if the eigenvalues diverge, or the flow is too stiff to be
        followed to the last time. A traced solution is not finite from there on.

    Source: Halvagal et al. 2023, Theorems 1 and 2 averaged over Gaussian inputs.
    """
    lam = check_flow(name, eigenvalues, alpha, rate, view_noise)
    times = jnp.asarray(times, lam.dtype)
    _check_times(times)
    solver = _evaluate if has_closed_form(name, weight_decay) else _integrate
    settings = {
        "alpha": alpha,
        "rate": rate,
        "view_noise": tuple(view_noise),
        "weight_decay": weight_decay,
    }
    # A wider number among them would widen the solution.
    settings = jax.tree.map(lambda value: jnp.asarray(value, lam.dtype), settings)
    solution = solver(name, lam, times, **settings)
    if not isinstance(solution, jax.core.Tracer):
        _check_finite(name, np.asarray(solution), np.asarray(times))
    return solution


@partial(jax.jit, static_argnames="name")
def _evaluate(
    name: str,
    lam: Array,
    times: Array,
    *,
    alpha: float,
    rate: float,
    view_noise: tuple[float, float],
    weight_decay: float,
) -> Array:
    s = 2 * alpha * rate * times
    return CLOSED_FORMS[name](lam[None, :], s[:, None], view_noise[0], weight_decay)


@partial(jax.jit, static_argnames="name")
def _integrate(name: str, lam: Array, times: Array, **settings: Any) -> Array:
    # A trial step may overflow; without a finite error no shorter one would follow.
    largest = jnp.log(jnp.finfo(lam.dtype).max)

    def velocity(t: Array, log_lam: Array, settings: dict[str, Any]) -> Array:
        log_lam = jnp.clip(log_lam, -largest, largest / 8)
        return log_flow(name, log_lam, **settings)

    # In log(lam), so that the tolerance is relative and nothing turns negative.
    tolerance = 1e-8 if lam.dtype == jnp.float64 else 1e-5
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Dopri8(),
        t0=jnp.zeros((), lam.dtype),
        t1=times[-1],
        dt0=None,
        y0=jnp.log(lam),
        args=settings,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=_MAX_STEPS,
        throw=False,
    )
    return jnp.exp(solution.ys)


def _check_times(times: Array) -> None:
    check_vector("times", times)
    if not isinstance(times, jax.core.Tracer):
        values = np.asarray(times)
        if not (values.size and values[0] >= 0 and np.all(np.diff(values) > 0)):
            raise ValueError(
                f"times={values} are not increasing from 0 or later; sort them and "
                "drop repeated ones"
            )


def _check_finite(name: str, solution: np.ndarray, times: np.ndarray) -> None:
    is_finite = np.isfinite(solution).all(axis=-1)
    if not is_finite.all():
        raise FloatingPointError(
            f"the flow of {name!r} could not be followed to time "
            f"{times[~is_finite][0]:g}: its eigenvalues diverge, or the flow needs "
            f"more than {_MAX_STEPS:,} steps; end the times earlier"
        )
