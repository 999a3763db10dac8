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

# The explicit solver is the faster one; where the flow is stiff it stops at its limit
# and the implicit solver continues from there.
_EXPLICIT_STEPS = 256
_IMPLICIT_STEPS = 4096


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

    Solves `eigenvalue_flow`. Supports `jit`, `vmap` over initial eigenvalues, `alpha`,
    `rate` and `weight_decay`, and reverse-mode differentiation with respect to them.
    An explicit solver is used first; where the flow is stiff, for instance after weight
    decay made equalised eigenvalues small, an implicit one continues. Under `jit`,
    `vmap` and `grad` both are compiled, which takes longer; the implicit one runs only
    where it is needed.

    Args:
      name: of the loss, one of `flow.FLOWS`.
      eigenvalues: lam at time 0, positive, shape (dim,).
      times: when to report, increasing, none negative, shape (steps,).
      alpha: exponent of the predictor W_P = (W W^T)^alpha.
      rate: learning rate, which sets the unit of time.
      view_noise: standard deviations sigma_1 and sigma_2 of the views' noise.
      weight_decay: kappa of the penalty kappa/2 |W|^2.

    Returns:
      lam at those times, shape (steps, dim), in the dtype of `eigenvalues`. The
      relative error is below 1e-11 for a closed form in float64, below 1e-6 for the
      others, and below 1e-3 in float32. For the cosine losses this holds for alpha of
      at least 1/2 and eigenvalues that differ by a factor of at most 1e6; weaker modes
      are less accurate and leave the error of the others as it is.

    Raises:
      ValueError: for the reasons of `eigenvalue_flow`, or if the times are no vector,
        do not increase, or begin below 0. Traced values are not checked.
      FloatingPointError: if the eigenvalues diverge, or the solvers run out of steps
        before the last time. A traced solution is not finite from there on.

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


def _integrate(name: str, lam: Array, times: Array, **settings: Any) -> Array:
    """The solution by an explicit solver, and by an implicit one where it stops."""
    early, reached, last = _integrate_explicitly(name, lam, times, settings)
    if not isinstance(reached, jax.core.Tracer) and reached == times[-1]:
        return early
    return _integrate_implicitly(name, early, reached, last, times, settings)


@partial(jax.jit, static_argnames="name")
def _integrate_explicitly(
    name: str, lam: Array, times: Array, settings: dict[str, Any]
) -> tuple[Array, Array, Array]:
    """The solution, the last time reached and log(lam) there."""
    solution = _diffeqsolve(
        name,
        settings,
        diffrax.Dopri8(),
        t0=jnp.zeros((), lam.dtype),
        t1=times[-1],
        dt0=None,
        y0=jnp.log(lam),
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]
        ),
        max_steps=_EXPLICIT_STEPS,
    )
    (_, (reached,)), (log_lam, (last,)) = solution.ts, solution.ys
    return jnp.exp(log_lam), reached, last


@partial(jax.jit, static_argnames="name")
def _integrate_implicitly(
    name: str,
    early: Array,
    reached: Array,
    last: Array,
    times: Array,
    settings: dict[str, Any],
) -> Array:
    """Continues a solution from the time and log(lam) reached. Free if at the end."""
    solution = _diffeqsolve(
        name,
        settings,
        diffrax.Kvaerno5(),
        t0=reached,
        t1=times[-1],
        # Where the explicit solver stopped, its steps were about that long.
        dt0=jnp.maximum(reached, jnp.finfo(times.dtype).tiny) / _EXPLICIT_STEPS,
        y0=last,
        saveat=diffrax.SaveAt(ts=jnp.maximum(times, reached)),
        max_steps=_IMPLICIT_STEPS,
    )
    return jnp.where((times <= reached)[:, None], early, jnp.exp(solution.ys))


def _diffeqsolve(
    name: str, settings: dict[str, Any], solver: diffrax.AbstractSolver, **options: Any
) -> diffrax.Solution:
    """Solves for log(lam): the tolerance is relative and nothing turns negative."""
    dtype = options["y0"].dtype
    # A trial step may overflow; without a finite error no shorter one would follow.
    largest = jnp.log(jnp.finfo(dtype).max)

    def velocity(t: Array, log_lam: Array, settings: dict[str, Any]) -> Array:
        log_lam = jnp.clip(log_lam, -largest, largest / 8)
        return log_flow(name, log_lam, **settings)

    tolerance = 1e-8 if dtype == jnp.float64 else 1e-5
    return diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        args=settings,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        throw=False,
        **options,
    )


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
            f"{times[~is_finite][0]:g}: its eigenvalues diverge, or it needs more than "
            f"{_EXPLICIT_STEPS:,} explicit and {_IMPLICIT_STEPS:,} implicit steps; "
            "end the times earlier"
        )
