"""Two noisy views of Gaussian inputs, as samples or as a factor of their second moment.

The views of x ~ N(0, I_N) are x_i = x + sigma_i xi_i. y = [x1; x2] is Gaussian, and
every block of its covariance is I_N, multiplied by 1 + sigma_i^2 on the diagonal. Both
forms consist of columns of 2 N standard normal numbers, which `mix_views` converts to
views. The weight of a column in the mean is called its share. A sample has the share
1/n. A column of a factor of the second moment has the share 1; these columns give the
same mean of any quantity that is quadratic in y.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import threefry_2x32
from jax.typing import DTypeLike

from isojax.dynamics.wishart import sample_second_moment_factor

# Number of samples whose intermediate results fit in the cache of a core.
_CHUNK = 2_500


def draw_samples(
    key: Array, *, inputs: int, samples: int, dtype: DTypeLike
) -> tuple[Array, Array]:
    """Draws samples in chunks of equal size.

    Args:
      key: PRNG key.
      inputs: dimension N of the inputs.
      samples: number n of samples.
      dtype: dtype of the result; the samples are drawn in float32.

    Returns:
      Columns, shape (chunks, 2, N, k), and their shares, shape (chunks, k): 1/n, or
      zero for columns in excess of n.
    """
    chunks, size = split_evenly(samples, _CHUNK)
    columns = sample_normal(key, (chunks, 2, inputs, size)).astype(dtype)
    is_wanted = jnp.arange(chunks * size) < samples
    return columns, is_wanted.astype(dtype).reshape(chunks, size) / samples


def draw_factor(
    key: Array, diagonal: Array, *, inputs: int, samples: int
) -> tuple[Array, Array]:
    """Draws a factor of the samples' second moment, as one chunk.

    Args:
      key: PRNG key.
      diagonal: result of `wishart.sample_diagonal` with the same key for 2 N
        dimensions.
      inputs: dimension N of the inputs.
      samples: number n of samples.

    Returns:
      Columns, shape (1, 2, N, k) with k <= 2 N, and their shares, ones, shape (1, k),
      in the dtype of `diagonal`.
    """
    return _as_columns(
        sample_second_moment_factor(key, diagonal, dim=2 * inputs, samples=samples)
    )


def expected_factor(*, inputs: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Returns a factor of the expected second moment, in the form of `draw_factor`."""
    return _as_columns(jnp.eye(2 * inputs, dtype=dtype))


def _as_columns(factor: Array) -> tuple[Array, Array]:
    dim, columns = factor.shape
    shares = jnp.ones((1, columns), factor.dtype)
    return factor.reshape(1, 2, dim // 2, columns), shares


def mix_views(columns: Array, view_noise: Array) -> tuple[Array, Array]:
    """Converts columns of standard normal numbers to columns of the two views.

    Multiplies by the Cholesky factor of the covariance of the views.

    Args:
      columns: standard normal numbers, shape (2, N, k).
      view_noise: sigma_1 and sigma_2, shape (2,).

    Returns:
      The columns of x1 and x2, each of shape (N, k).
    """
    u, v = columns
    variance1, variance2 = jnp.square(view_noise)
    root = jnp.sqrt(1 + variance1)
    rest = jnp.sqrt(variance1 + variance2 + variance1 * variance2) / root
    return root * u, u / root + rest * v


def sample_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws standard normal numbers, faster on a CPU than `jax.random.normal`.

    Uses both words of every Threefry block, while `jax.random` uses one. The
    numbers are the normal quantiles of a 23-bit grid and lie within [-5.3, 5.3].

    Args:
      key: PRNG key of any implementation.
      shape: shape of the result, at most 2^32 numbers.

    Returns:
      float32 array of the given shape.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    bits = threefry_2x32(seed, jax.lax.iota(jnp.uint32, math.prod(shape)))
    # Odd multiples of 2^-23 in (-1, 1): symmetric, without the end points.
    odd = 2 * (bits >> 9).astype(jnp.int32) + (1 - 2**23)
    uniform = odd.astype(jnp.float32) * 2.0**-23
    return math.sqrt(2) * jax.lax.erf_inv(uniform).reshape(shape)


def split_evenly(total: int, largest: int) -> tuple[int, int]:
    """Returns number and size (<= largest) of equal parts that hold at least total."""
    parts = math.ceil(total / largest)
    return parts, math.ceil(total / parts)
