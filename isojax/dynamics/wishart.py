"""Draws the second moment of Gaussian vectors without drawing the vectors.

A quadratic function of n Gaussian vectors x of dimension d depends only on their second
moment S = 1/n sum_i x_i x_i^T, and n S has the Wishart distribution. Bartlett's
decomposition draws a factor F with S = F F^T from at most d (d + 1) / 2 numbers for any
n. The mean of a quadratic function over the samples and its sum over the columns of F
have the same distribution.

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
    """Draws a factor F of the second moment F F^T of standard normal vectors.

    samples * F F^T has the Wishart distribution with `samples` degrees of freedom and
    scale I. For vectors of any covariance L L^T, L F is a factor.

    Args:
      key: PRNG key.
      dim: dimension of the vectors.
      samples: number n of vectors, which does not affect the cost.
      dtype: float32 or float64.

    Returns:
      F, lower trapezoidal, shape (dim, min(dim, samples)).

    Raises:
      ValueError: if `dim` or `samples` is not a positive integer.

    Example:
      >>> factor = sample_second_moment_factor(jax.random.key(0), dim=3, samples=100)
      >>> factor.shape, bool(jnp.all(factor == jnp.tril(factor)))
      ((3, 3), True)

    Source: Bartlett's decomposition, including samples < dim. Before the division by
    sqrt(samples), the entries are independent, those below the diagonal are normal, and
    the square of entry i >= 0 on the diagonal is chi-squared with samples - i degrees
    of freedom.
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
