"""Closed forms of the population flows in which no mode feels another.

In the time s = 2 alpha rate t, with c = 1 + sigma_1^2 and weight decay kappa:

  iso_euclidean           dlam/ds = lam (1 - kappa - c lam)       a logistic
  euclidean               dlam/ds = lam^2 (1 - c lam)             kappa = 0 only
  euclidean_no_predictor  dlam/ds = -(sigma_1^2 + kappa) lam      an exponential
  cosine_no_predictor     dlam/ds = -kappa lam                    an exponential

The second is solved by y = 1/(c lam) - 1, for which y + log|y| falls at the rate 1/c:
y e^y = y_0 e^{y_0 - s/c}, Lambert's W function.
"""

from collections.abc import Callable
from numbers import Real

import jax.numpy as jnp
from jax import Array

_NEWTON_STEPS = 6


def _iso_euclidean(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    growth = 1 - decay
    # (1 - e^{-growth s}) / growth, which is s where nothing grows.
    x = -growth * s
    is_small = jnp.abs(x) < jnp.finfo(lam.dtype).eps
    safe = jnp.where(is_small, 1, x)
    elapsed = s * jnp.where(is_small, 1, jnp.expm1(safe) / safe)
    return lam / (jnp.exp(x) + (1 + sigma1**2) * lam * elapsed)


def _euclidean(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    del decay  # zero, see `has_closed_form`
    c = 1 + sigma1**2
    y0 = 1 / (c * lam) - 1
    elapsed = s / c
    # At the fixed point the logarithm is infinite; near it y decays exponentially.
    is_near = jnp.abs(y0) < jnp.finfo(lam.dtype).eps
    is_below = y0 > 0
    safe = jnp.where(is_near, 1, y0)
    level = jnp.log(jnp.abs(safe)) + safe - elapsed
    # Each branch sees a level of its own domain: gradients pass through both.
    y_below = jnp.exp(_growing(jnp.where(is_below, level, 0)))
    y_above = -jnp.exp(_shrinking(jnp.where(is_below, -2, level)))
    y_near = y0 * jnp.exp(-elapsed)
    y = jnp.where(is_near, y_near, jnp.where(is_below, y_below, y_above))
    return 1 / (c * (1 + y))


def _growing(level: Array) -> Array:
    """The root u of u + e^u = level, where lam is below 1/c."""
    u = jnp.where(level < 1, level, jnp.log(jnp.maximum(level, 1)))
    for _ in range(_NEWTON_STEPS):
        u = u - (u + jnp.exp(u) - level) / (1 + jnp.exp(u))
    return u


def _shrinking(level: Array) -> Array:
    """The root u < 0 of u - e^u = level <= -1, where lam is above 1/c."""
    below = jnp.maximum(-1 - level, jnp.finfo(level.dtype).eps)
    u = jnp.where(below < 2, -jnp.sqrt(2 * below) - below / 3, level)
    for _ in range(_NEWTON_STEPS):
        u = u + (u - jnp.exp(u) - level) / jnp.expm1(u)
    return u


def _euclidean_no_predictor(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    return lam * jnp.exp(-(sigma1**2 + decay) * s)


def _cosine_no_predictor(lam: Array, s: Array, sigma1: float, decay: float) -> Array:
    return lam * jnp.exp(-decay * s)


# Solutions at the times s, of (lam, s, sigma_1, kappa), broadcast together.
CLOSED_FORMS: dict[str, Callable[[Array, Array, float, float], Array]] = {
    "iso_euclidean": _iso_euclidean,
    "euclidean": _euclidean,
    "euclidean_no_predictor": _euclidean_no_predictor,
    "cosine_no_predictor": _cosine_no_predictor,
}


def has_closed_form(name: str, weight_decay: float) -> bool:
    """Whether a loss has one: the Euclidean loss has none if decay may not be zero."""
    is_free = isinstance(weight_decay, Real) and weight_decay == 0
    return name in CLOSED_FORMS and (name != "euclidean" or is_free)
