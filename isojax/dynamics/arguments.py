"""Checks of arguments, with errors that state the allowed values.

Values of traced arrays are not known and are not checked.
"""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike


def check_choice(label: str, value: str, allowed: Collection[str]) -> None:
    """Raises ValueError unless the value is one of the allowed ones."""
    if value not in tuple(allowed):
        raise ValueError(f"{label}={value!r} is not one of {', '.join(allowed)}")


def check_count(label: str, value: Any) -> None:
    """Raises ValueError unless the value is a positive integer."""
    if not (isinstance(value, Integral) and int(value) >= 1):
        raise ValueError(f"{label}={value!r} is not a positive integer")


def check_positive(label: str, value: Any) -> None:
    """Raises ValueError unless the value is positive and finite."""
    number = _known_number(value)
    if number is not None and not 0 < number < math.inf:
        raise ValueError(f"{label}={value} is not a positive, finite number")


def check_not_negative(label: str, value: Any) -> None:
    """Raises ValueError unless the value is nonnegative and finite."""
    number = _known_number(value)
    if number is not None and not 0 <= number < math.inf:
        raise ValueError(f"{label}={value} is not a nonnegative, finite number")


def _known_number(value: Any) -> float | None:
    """Returns a number, NaN for anything else, and None if its value is traced."""
    if isinstance(value, jax.core.Tracer):
        return None if value.shape == () else math.nan
    dtype = np.asarray(value).dtype
    is_real = any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
    return float(value) if is_real and np.shape(value) == () else math.nan


def as_array(label: str, value: Any) -> Array:
    """Returns the value as an array; raises ValueError unless it holds numbers."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label} must be an array of numbers: {error}") from error


def check_vector(label: str, value: Any) -> Array:
    """Returns the value as an array; raises ValueError if not a vector of floats."""
    vector = as_array(label, value)
    is_float = jnp.issubdtype(vector.dtype, jnp.floating)
    if vector.ndim != 1 or vector.size == 0 or not is_float:
        raise ValueError(
            f"{label} must be a vector of at least one float, not an array of shape "
            f"{vector.shape} and dtype {vector.dtype}"
        )
    return vector


def check_view_noise(value: Any) -> None:
    """Raises ValueError unless the value is a pair of standard deviations."""
    try:
        sigmas = tuple(value)
    except TypeError:  # a single number, or None
        sigmas = ()
    if len(sigmas) != 2:
        raise ValueError(f"view_noise={value} is not a pair (sigma_1, sigma_2)")
    for sigma in sigmas:
        check_not_negative("view_noise", sigma)


def is_noisy(view_noise: Sequence[Any]) -> bool:
    """Whether the noise of the views is not known to be zero."""
    return not all(isinstance(sigma, Real) and sigma == 0 for sigma in view_noise)


def flow_settings(
    dtype: DTypeLike, *, alpha: Any, rate: Any, view_noise: Any, weight_decay: Any
) -> dict[str, Any]:
    """Returns the settings of a flow as keyword arguments of its solver.

    All have the type of the solution, because a wider type would widen it. Noise that
    is known to be zero becomes None, so that it takes no computation.
    """
    settings = {
        "alpha": alpha,
        "rate": rate,
        "view_noise": tuple(view_noise) if is_noisy(view_noise) else None,
        "weight_decay": weight_decay,
    }
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), settings)


def check_times(value: Any, dtype: DTypeLike) -> Array:
    """Returns the times; ValueError unless nonnegative, finite and increasing."""
    times = check_vector("times", as_array("times", value).astype(dtype))
    if not isinstance(times, jax.core.Tracer):
        values = np.asarray(times)
        is_increasing = values[0] >= 0 and np.all(np.diff(values) > 0)
        if not (is_increasing and np.isfinite(values).all()):
            raise ValueError(
                f"times={values} are not nonnegative, finite and increasing; sort them "
                "and remove duplicates"
            )
    return times


def check_finite(
    name: str, solution: np.ndarray, times: np.ndarray, reason: str
) -> None:
    """Raises FloatingPointError with the first time whose row is not finite."""
    is_finite = np.isfinite(solution).all(axis=-1)
    if not is_finite.all():
        raise FloatingPointError(
            f"the solution of {name!r} failed before time {times[~is_finite][0]:g}: "
            f"{reason}; choose earlier times"
        )


def check_weights(value: Any) -> Array:
    """Returns the value as an array; ValueError unless it is a finite real matrix."""
    weights = as_array("weights", value)
    if weights.ndim != 2 or weights.size == 0:
        raise ValueError(
            f"weights must have the shape (outputs, inputs), not {weights.shape}"
        )
    if jnp.issubdtype(weights.dtype, jnp.complexfloating):
        raise ValueError(f"weights must be real, not {weights.dtype}")
    # NumPy, because under a trace JAX's functions turn known values into tracers.
    if not isinstance(weights, jax.core.Tracer) and not np.isfinite(weights).all():
        raise ValueError("weights contain NaN or infinity; choose finite numbers")
    return weights


def check_covariance(value: Any, weights: Array) -> Array | None:
    """Returns a covariance in the dtype of the weights, or None if given None.

    Raises:
      ValueError: if it is not a symmetric positive definite matrix whose size is the
        number of inputs.
    """
    inputs = weights.shape[1]
    if value is None:
        return None
    covariance = as_array("input_covariance", value)
    if covariance.shape != (inputs, inputs):
        raise ValueError(
            f"input_covariance must have the shape ({inputs}, {inputs}) for weights of "
            f"shape {weights.shape}, not {covariance.shape}"
        )
    if jnp.issubdtype(covariance.dtype, jnp.complexfloating):
        raise ValueError(f"input_covariance must be real, not {covariance.dtype}")
    covariance = covariance.astype(weights.dtype)
    if not isinstance(covariance, jax.core.Tracer):
        matrix = np.asarray(covariance, np.float64)
        # NaN compares as false.
        if not np.abs(matrix - matrix.T).max() <= 1e-6 * np.abs(matrix).max():
            raise ValueError(
                "input_covariance is not a finite symmetric matrix; use (A + A.T) / 2"
            )
        variances = np.linalg.eigvalsh(matrix)
        if not variances[0] > jnp.finfo(weights.dtype).eps * variances[-1]:
            raise ValueError(
                f"input_covariance is not positive definite in {weights.dtype}: its "
                f"smallest eigenvalue is {variances[0]:g}; choose a matrix with "
                "positive eigenvalues only"
            )
    return (covariance + covariance.T) / 2
