"""Closed-form solutions of the population flows with independent modes.

In units of time s = 2 alpha rate t, with c = 1 + sigma_1^2 and weight decay kappa:

  iso_euclidean           dlam/ds = lam (1 - kappa - c lam)       a logistic
  euclidean               dlam/ds = lam^2 (1 - c lam)             kappa = 0 only
  euclidean_no_predictor  dlam/ds = -(sigma_1^2 + kappa) lam      an exponential
  cosine_no_predictor     dlam/ds = -kappa lam                    sigma = 0 only

For "euclidean", y = 1/(c lam) - 1 satisfies y e^y = y_0 e^{y_0 - s/c}, which is solved
by Lambert's W function: y + log|y| decreases at the rate 1/c. Above the fixed point the
unknown is u = log(-y), and e^u - 1 - u increases at the rate 1/c.
"""

from collections.abc import Callable
from numbers import Real

import jax.numpy as jnp
from jax import Array

from isojax.dynamics.arguments import is_noisy

_NEWTON_STEPS = 6
_SERIES_TERMS = 16


def _iso_euclidean(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    x = (decay - 1) * s
    size = jnp.where(x > 0, x, -x)
    # (1 - e^{-size}) / size, which tends to 1 as size tends to 0.
    is_small = size < jnp.finfo(lam.dtype).eps
    safe = jnp.where(is_small, 1, size)
    ratio = jnp.where(is_small, 1 - size / 2, -jnp.expm1(-safe) / safe)
    # Where e^x would overflow, numerator and denominator are divided by it.
    decayed = jnp.exp(-size)
    saturation = (1 + sigma1**2) * lam * s * ratio
    return jnp.where(
        x > 0, lam * decayed / (1 + saturation), lam / (decayed + saturation)
    )


def _euclidean(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    del decay  # zero, see `has_closed_form`
    c = 1 + sigma1**2
    q0 = 1 / (c * lam)
    y0 = q0 - 1
    elapsed = s / c
    # The logarithm is infinite at the fixed point, near which y decays exponentially.
    is_near = jnp.abs(y0) < jnp.finfo(lam.dtype).eps
    is_below = ~is_near & (y0 > 0)
    is_above = ~is_near & (y0 < 0)
    # Each branch gets arguments in its own domain, because gradients pass through all
    # branches.
    y = jnp.where(is_below, y0, 1)
    q_below = 1 + jnp.exp(_solve_below(jnp.log(y) + y - elapsed))
    # Far above the fixed point, y is close to -1, and log1p keeps the difference.
    u = jnp.log1p(-jnp.where(is_above, q0, 0.5))
    q_above = -jnp.expm1(_solve_above(_exp_remainder(u) + elapsed))
    q_near = 1 + y0 * jnp.exp(-elapsed)
    q = jnp.where(is_near, q_near, jnp.where(is_below, q_below, q_above))
    return 1 / (c * q)


def _solve_below(level: Array) -> Array:
    """Solves u + e^u = level, for lam below 1/c."""
    u = jnp.where(level < 1, level, jnp.log(jnp.maximum(level, 1)))
    for _ in range(_NEWTON_STEPS):
        u = u - (u + jnp.exp(u) - level) / (1 + jnp.exp(u))
    return u


def _solve_above(remainder: Array) -> Array:
    """Solves e^u - 1 - u = remainder for u < 0, for lam above 1/c."""
    remainder = jnp.maximum(remainder, 16 * jnp.finfo(remainder.dtype).tiny)
    u = jnp.where(
        remainder < 2, -jnp.sqrt(2 * remainder) - remainder / 3, -1 - remainder
    )
    for _ in range(_NEWTON_STEPS):
        u = u - (_exp_remainder(u) - remainder) / jnp.expm1(u)
    return u


def _exp_remainder(u: Array) -> Array:
    """Computes e^u - 1 - u for u < 0, by its series where u is small."""
    is_small = u > -0.5
    safe = jnp.where(is_small, u, 0)
    series = jnp.ones_like(u)
    for k in range(_SERIES_TERMS, 2, -1):
        series = 1 + safe / k * series
    return jnp.where(is_small, safe**2 / 2 * series, jnp.expm1(u) - u)


def _euclidean_no_predictor(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    return lam * jnp.exp(-(sigma1**2 + decay) * s)


def _cosine_no_predictor(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    del sigma1  # zero, see `has_closed_form`
    return lam * jnp.exp(-decay * s)


# Functions of (lam, s, sigma_1, kappa), which are broadcast against each other.
CLOSED_FORMS: dict[str, Callable[[Array, Array, float, float], Array]] = {
    "iso_euclidean": _iso_euclidean,
    "euclidean": _euclidean,
    "euclidean_no_predictor": _euclidean_no_predictor,
    "cosine_no_predictor": _cosine_no_predictor,
}


def has_closed_form(
    name: str, weight_decay: float, view_noise: tuple[float, float]
) -> bool:
    """Whether the flow has a closed form under the given settings.

    "euclidean" has none with weight decay, "cosine_no_predictor" none with view noise.
    """
    if name == "euclidean":
        return isinstance(weight_decay, Real) and weight_decay == 0
    if name == "cosine_no_predictor":
        return not is_noisy(view_noise)
    return name in CLOSED_FORMS
