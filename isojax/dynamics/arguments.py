"""Checks of arguments, each telling what is allowed.

Numbers that JAX traces are not known yet and pass.
"""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import jax.numpy as jnp
from jax import Array


def check_choice(label: str, value: str, allowed: Collection[str]) -> None:
    """Raises ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{label}={value!r} is none of {', '.join(allowed)}")


def check_count(label: str, value: Any) -> None:
    """Raises ValueError unless the value is a whole number of at least 1."""
    if not (isinstance(value, Integral) and value >= 1):
        raise ValueError(f"{label}={value!r} is not a whole number of at least 1")


def check_positive(label: str, value: Any) -> None:
    """Raises ValueError unless the number is positive and finite."""
    if isinstance(value, Real) and not 0 < value < math.inf:
        raise ValueError(f"{label}={value} is not positive and finite")


def check_not_negative(label: str, value: Any) -> None:
    """Raises ValueError unless the number is zero, or positive and finite."""
    if isinstance(value, Real) and not 0 <= value < math.inf:
        raise ValueError(f"{label}={value} is not zero, or positive and finite")


def check_vector(label: str, value: Any) -> Array:
    """The value as an array, or ValueError unless it is a vector of floats."""
    vector = jnp.asarray(value)
    if vector.ndim != 1 or not jnp.issubdtype(vector.dtype, jnp.floating):
        raise ValueError(
            f"{label} of shape {vector.shape} and type {vector.dtype} are not a vector "
            "of floats"
        )
    return vector


def check_view_noise(value: Any) -> None:
    """Raises ValueError unless the value is a pair of deviations, none negative."""
    if jnp.asarray(value).shape != (2,):
        raise ValueError(f"view_noise={value} is not a pair (sigma_1, sigma_2)")
    for sigma in value:
        check_not_negative("view_noise", sigma)
