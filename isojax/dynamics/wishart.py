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


def sample_diagonal(
    key: Array, *, dim: int, samples: int, dtype: DTypeLike = jnp.float32
) -> Array:
    """Draws the diagonal of a factor of the second moment.

    This is most of the work of compiling a factor, so programs that differ in what
    they do with factors can share it.

    Args:
      key: PRNG key, the one given to `sample_second_moment_factor`.
      dim: dimension of the vectors.
      samples: number n of vectors, which does not affect the cost.
      dtype: float32 or float64.

    Returns:
      The diagonal, shape (min(dim, samples),).

    Raises:
      ValueError: if `dim` or `samples` is not a positive integer.

    Example:
      >>> sample_diagonal(jax.random.key(0), dim=3, samples=2).shape
      (2,)

    Source: Bartlett's decomposition, including samples < dim. The square of entry
    i >= 0, times samples, is chi-squared with samples - i degrees of freedom.
    """
    check_count("dim", dim)
    check_count("samples", samples)
    _, chi_key = jax.random.split(key)
    degrees = jnp.asarray(samples - jnp.arange(min(dim, samples)), dtype)
    squares = jax.random.chisquare(chi_key, degrees, dtype=dtype)
    return jnp.sqrt(squares) / math.sqrt(samples)


def sample_second_moment_factor(
    key: Array, diagonal: Array, *, dim: int, samples: int
) -> Array:
    """Draws a factor F of the second moment F F^T of standard normal vectors.

    samples * F F^T has the Wishart distribution with `samples` degrees of freedom and
    scale I. For vectors of any covariance L L^T, L F is a factor.

    Args:
      key: PRNG key.
      diagonal: result of `sample_diagonal` with the same key and sizes.
      dim: dimension of the vectors.
      samples: number n of vectors, which does not affect the cost.

    Returns:
      F, lower trapezoidal, shape (dim, min(dim, samples)), in the dtype of `diagonal`.

    Example:
      >>> key, sizes = jax.random.key(0), {"dim": 3, "samples": 100}
      >>> diagonal = sample_diagonal(key, **sizes)
      >>> factor = sample_second_moment_factor(key, diagonal, **sizes)
      >>> factor.shape, bool(jnp.all(factor == jnp.tril(factor)))
      ((3, 3), True)

    Source: Bartlett's decomposition. Before the division by sqrt(samples), the entries
    below the diagonal are standard normal and independent.
    """
    normal_key, _ = jax.random.split(key)
    shape = (dim, diagonal.size)
    below = jnp.tril(jax.random.normal(normal_key, shape, diagonal.dtype), -1)
    on_diagonal = jnp.eye(*shape, dtype=diagonal.dtype) * diagonal[None, :]
    return below / math.sqrt(samples) + on_diagonal
