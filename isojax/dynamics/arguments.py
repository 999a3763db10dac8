"""Checks of arguments, with errors that state the allowed values.

Values of traced arrays are not known and are not checked.
"""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import jax.numpy as jnp
from jax import Array


def check_choice(label: str, value: str, allowed: Collection[str]) -> None:
    """Raises ValueError unless the value is one of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"{label}={value!r} is not one of {', '.join(allowed)}")


def check_count(label: str, value: Any) -> None:
    """Raises ValueError unless the value is a positive integer."""
    if not (isinstance(value, Integral) and int(value) >= 1):
        raise ValueError(f"{label}={value!r} is not a positive integer")


def check_positive(label: str, value: Any) -> None:
    """Raises ValueError unless the value is positive and finite."""
    if isinstance(value, Real) and not 0 < float(value) < math.inf:
        raise ValueError(f"{label}={value} is not positive and finite")


def check_not_negative(label: str, value: Any) -> None:
    """Raises ValueError unless the value is nonnegative and finite."""
    if isinstance(value, Real) and not 0 <= float(value) < math.inf:
        raise ValueError(f"{label}={value} is not nonnegative and finite")


def check_vector(label: str, value: Any) -> Array:
    """Returns the value as an array; raises ValueError if not a vector of floats."""
    vector = jnp.asarray(value)
    if vector.ndim != 1 or not jnp.issubdtype(vector.dtype, jnp.floating):
        raise ValueError(
            f"{label} must be a vector of floats, not an array of shape {vector.shape} "
            f"and dtype {vector.dtype}"
        )
    return vector


def check_view_noise(value: Any) -> None:
    """Raises ValueError unless the value is a pair of standard deviations."""
    if jnp.asarray(value).shape != (2,):
        raise ValueError(f"view_noise={value} is not a pair (sigma_1, sigma_2)")
    for sigma in value:
        check_not_negative("view_noise", sigma)
