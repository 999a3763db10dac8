"""The second moment of many Gaussian vectors, drawn without any of them.

A quantity quadratic in n Gaussian vectors x of dimension d depends on them only through
their second moment S = 1/n sum_i x_i x_i^T, and n S has the Wishart distribution.
Bartlett's decomposition draws a factor F of S = F F^T from d (d + 1) / 2 numbers at
most, whatever n. Its columns then stand for the samples: the quantity's mean over the
samples is its sum over the columns, in law.

Source: Bartlett 1933, "On the theory of statistical regression"; Odell and Feiveson
1966, "A numerical procedure to generate a sample covariance matrix".
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.dynamics.arguments import check_count


def sample_second_moment_factor(
    key: Array, *, dim: int, samples: int, dtype: DTypeLike = jnp.float32
) -> Array:
    """A factor F of the second moment F F^T of standard normal vectors.

    samples * F F^T has the Wishart distribution with `samples` degrees of freedom and
    scale I. For vectors of covariance L L^T, singular or not, L F is a factor.

    Args:
      key: PRNG key.
      dim: dimension of the vectors.
      samples: number of vectors, the n of the mean; a large one costs no more.
      dtype: float32 or float64.

    Returns:
      F, lower trapezoidal, shape (dim, min(dim, samples)).

    Raises:
      ValueError: if `dim` or `samples` is not a whole number of at least 1.

    Source: Bartlett's decomposition, also for samples < dim: entries below the diagonal
    are normal, the square of the i-th on it is chi-squared with samples - i degrees of
    freedom, i from 0, all independent and divided by sqrt(samples).
    """
    check_count("dim", dim)
    check_count("samples", samples)
    columns = min(dim, samples)
    normal_key, chi_key = jax.random.split(key)
    below = jnp.tril(jax.random.normal(normal_key, (dim, columns), dtype), -1)
    degrees = jnp.asarray(samples - jnp.arange(columns), dtype)
    diagonal = jnp.sqrt(jax.random.chisquare(chi_key, degrees, dtype=dtype))
    factor = below + jnp.eye(dim, columns, dtype=dtype) * diagonal[None, :]
    return factor / math.sqrt(samples)
