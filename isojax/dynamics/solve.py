"""Solves the population flow, in closed form where one exists."""

from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.arguments import check_finite, check_times, flow_settings
from isojax.dynamics.closed_forms import CLOSED_FORMS, has_closed_form
from isojax.dynamics.flow import FLOWS, Flow, check_flow, log_flow

# The explicit solver is faster. If the flow becomes stiff, it reaches its limit of
# steps, and the implicit solver continues.
_EXPLICIT_STEPS = 384
_IMPLICIT_STEPS = 4096
# Largest change of log(lam) between neighbouring floating-point times.
_LARGEST_CHANGE = 0.05


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
    """Solves `eigenvalue_flow` for the eigenvalues of the predictor over time.

    Supports `jit`, `vmap` over initial eigenvalues, `alpha`, `rate`, `view_noise` and
    `weight_decay`, and reverse-mode differentiation with respect to them. An explicit
    solver runs first. If the flow becomes stiff, for instance after weight decay has
    made equal eigenvalues small, an implicit solver continues. Under `jit`, `vmap` and
    `grad` both are compiled, which takes longer, but the implicit one runs only if
    needed.

    Args:
      name: name of the loss, one of `flow.FLOWS`.
      eigenvalues: lam at time 0, positive, shape (dim,).
      times: times of the solution, nonnegative and increasing, shape (steps,).
      alpha: exponent of the predictor W_P = (W W^T)^alpha.
      rate: learning rate, which sets the unit of time.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views.
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2.

    Returns:
      lam at `times`, shape (steps, dim), in the dtype of `eigenvalues`. In float64 the
      relative error is below 1e-11 for closed forms, about 1e-8 with the explicit
      solver and below 1e-6 with the implicit one; in float32 it is below 1e-3. For the
      cosine losses this requires alpha >= 1/2 and eigenvalues that differ by a factor
      of at most 1e6. Weaker modes are less accurate but do not increase the errors of
      the others.

    Raises:
      ValueError: if an argument is invalid for `eigenvalue_flow`, or `times` is not an
        increasing vector of nonnegative floats. Traced values are not checked.
      FloatingPointError: if the eigenvalues diverge, or the solvers reach their limits
        of steps before the last time. Under a transformation, where no error can be
        raised, the solution is not finite from that time on.

    Example:
      >>> start, times = jnp.array([0.01, 0.5]), jnp.array([0.0, 10.0])
      >>> print(solve_eigenvalues("iso_euclidean", start, times).round(3))
      [[0.01 0.5 ]
       [1.   1.  ]]

    Source: Halvagal et al. 2023, Theorems 1 and 2 averaged over Gaussian inputs.
    """
    lam = check_flow(name, eigenvalues, alpha, rate, view_noise, weight_decay)
    times = check_times(times, lam.dtype)
    has_form = has_closed_form(name, weight_decay, view_noise)
    settings = flow_settings(
        lam.dtype,
        alpha=alpha,
        rate=rate,
        view_noise=view_noise,
        weight_decay=weight_decay,
    )
    if has_form:
        solution = _evaluate(name, lam, times, **settings)
    else:
        solution = _integrate(FLOWS[name], lam, times, settings)
    if not isinstance(solution, jax.core.Tracer):
        limits = (
            f"the eigenvalues diverge, or {_EXPLICIT_STEPS:,} explicit and "
            f"{_IMPLICIT_STEPS:,} implicit steps are too few"
        )
        check_finite(name, np.asarray(solution), np.asarray(times), limits)
    return solution


@partial(jax.jit, static_argnames="name")
def _evaluate(
    name: str,
    lam: Array,
    times: Array,
    *,
    alpha: float,
    rate: float,
    view_noise: tuple[float, float] | None,
    weight_decay: float,
) -> Array:
    s = 2 * alpha * rate * times
    sigma1 = 0.0 if view_noise is None else view_noise[0]
    return CLOSED_FORMS[name](lam[None, :], s[:, None], sigma1, weight_decay)


def _integrate(flow: Flow, lam: Array, times: Array, settings: dict[str, Any]) -> Array:
    """Solves with the explicit solver, then the implicit one if it does not finish."""
    early, reached, last = _integrate_explicitly(flow, lam, times, settings)
    if not isinstance(reached, jax.core.Tracer) and reached == times[-1]:
        return early
    return _integrate_implicitly(flow, early, reached, last, times, settings)


@jax.jit
def _integrate_explicitly(
    flow: Flow, lam: Array, times: Array, settings: dict[str, Any]
) -> tuple[Array, Array, Array]:
    """Returns the solution, the last time reached and log(lam) at that time."""
    solution = _diffeqsolve(
        flow,
        settings,
        diffrax.Dopri8(),
        # Between its steps the solver interpolates with an error of 100 tolerances.
        tolerance=1e-10,
        t0=jnp.zeros((), lam.dtype),
        t1=times[-1],
        dt0=None,
        y0=jnp.log(lam),
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]
        ),
        max_steps=_EXPLICIT_STEPS,
    )
    ts: Any = solution.ts
    ys: Any = solution.ys
    (_, (reached,)), (log_lam, (last,)) = ts, ys
    return jnp.exp(log_lam), reached, last


@jax.jit
def _integrate_implicitly(
    flow: Flow,
    early: Array,
    reached: Array,
    last: Array,
    times: Array,
    settings: dict[str, Any],
) -> Array:
    """Continues a solution from time `reached`, in zero steps if it is complete."""
    solution = _diffeqsolve(
        flow,
        settings,
        diffrax.Kvaerno5(),
        tolerance=1e-8,
        t0=reached,
        t1=times[-1],
        # About the length of the explicit solver's last steps.
        dt0=jnp.maximum(reached, jnp.finfo(times.dtype).tiny) / _EXPLICIT_STEPS,
        y0=last,
        saveat=diffrax.SaveAt(ts=jnp.maximum(times, reached)),
        max_steps=_IMPLICIT_STEPS,
    )
    ys: Any = solution.ys
    return jnp.where((times <= reached)[:, None], early, jnp.exp(ys))


def _diffeqsolve(
    flow: Flow,
    settings: dict[str, Any],
    solver: diffrax.AbstractSolver,
    *,
    tolerance: float,
    **options: Any,
) -> diffrax.Solution:
    """Solves for log(lam), which makes the tolerance relative and lam positive.

    `tolerance` applies to float64.
    """
    dtype = options["y0"].dtype
    # A trial step may overflow. The solver can shrink it only if its error is finite.
    largest = jnp.log(jnp.finfo(dtype).max)
    # A mode that vanishes in finite time becomes faster than the spacing of times in
    # float32 resolves. Its speed is then limited; it is too weak to affect the others.
    resolution = jnp.finfo(dtype).eps / _LARGEST_CHANGE

    def velocity(t: Any, log_lam: Array, args: tuple[Flow, dict[str, Any]]) -> Array:
        flow, settings = args
        log_lam = jnp.clip(log_lam, -largest, largest / 8)
        growth = log_flow(flow, log_lam, **settings)
        return growth * jax.lax.rsqrt(1 + jnp.square(growth * t * resolution))

    tolerance = tolerance if dtype == jnp.float64 else 1e-5
    return diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        args=(flow, settings),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        throw=False,
        **options,
    )
