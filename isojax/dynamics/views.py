"""Two noisy views of Gaussian inputs, drawn one by one or as a whole.

The views of x ~ N(0, I_N) are x_i = x + sigma_i xi_i: y = [x1; x2] is Gaussian with
covariance I_N in every block, times 1 + sigma_i^2 on the diagonal. Both ways of drawing
give columns of 2 N standard normals, which `mix_views` turns into views, and each
column's share in the mean. The samples themselves have shares 1/n. The columns of a
factor of their second moment, of share 1 each, stand for them in whatever is quadratic
in y.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import threefry_2x32
from jax.typing import DTypeLike

from isojax.dynamics.wishart import sample_second_moment_factor

# Samples whose intermediate results stay within a core's cache.
_CHUNK = 2_500


def draw_samples(
    key: Array, *, inputs: int, samples: int, dtype: DTypeLike
) -> tuple[Array, Array]:
    """Samples, in chunks of one size, to be worked on one after another.

    Args:
      key: PRNG key.
      inputs: N.
      samples: n.
      dtype: of the result; drawn in float32.

    Returns:
      Columns, shape (chunks, 2, N, k), and their shares, shape (chunks, k): 1/n, and
      zero for the few that are too many.
    """
    chunks, size = split_evenly(samples, _CHUNK)
    columns = sample_normal(key, (chunks, 2, inputs, size)).astype(dtype)
    is_wanted = jnp.arange(chunks * size) < samples
    return columns, is_wanted.astype(dtype).reshape(chunks, size) / samples


def draw_factor(
    key: Array, *, inputs: int, samples: int | None, dtype: DTypeLike
) -> tuple[Array, Array]:
    """A factor of the samples' second moment, as one chunk.

    Args:
      key: PRNG key.
      inputs: N.
      samples: n, or None for the second moment's expectation.
      dtype: of the result.

    Returns:
      Columns, shape (1, 2, N, k), k at most 2 N, and their shares, ones, shape (1, k).
    """
    if samples is None:
        factor = jnp.eye(2 * inputs, dtype=dtype)
    else:
        factor = sample_second_moment_factor(
            key, dim=2 * inputs, samples=samples, dtype=dtype
        )
    columns = factor.reshape(1, 2, inputs, -1)
    return columns, jnp.ones((1, columns.shape[-1]), dtype)


def mix_views(columns: Array, view_noise: Array) -> tuple[Array, Array]:
    """Columns of the two views from columns of standard normals.

    Multiplies by the Cholesky factor of the views' covariance.

    Args:
      columns: shape (2, N, k).
      view_noise: sigma_1 and sigma_2, shape (2,).

    Returns:
      Columns of x1 and x2, each of shape (N, k).
    """
    u, v = columns
    variance1, variance2 = jnp.square(view_noise)
    root = jnp.sqrt(1 + variance1)
    rest = jnp.sqrt(variance1 + variance2 + variance1 * variance2) / root
    return root * u, u / root + rest * v


def sample_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normals, faster on a CPU than those of `jax.random.normal`.

    Both words of every Threefry block are used, where `jax.random` makes one of them.
    The numbers are the normal quantiles of a 23-bit grid and end at 5.3 either way.

    Args:
      key: PRNG key of any implementation.
      shape: of the result, at most 2^32 numbers.

    Returns:
      float32 array of the shape given.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    bits = threefry_2x32(seed, jax.lax.iota(jnp.uint32, math.prod(shape)))
    # The odd multiples of 2^-23 in (-1, 1): symmetric, and never the ends.
    odd = 2 * (bits >> 9).astype(jnp.int32) + (1 - 2**23)
    uniform = odd.astype(jnp.float32) * 2.0**-23
    return math.sqrt(2) * jax.lax.erf_inv(uniform).reshape(shape)


def split_evenly(total: int, largest: int) -> tuple[int, int]:
    """Number and size of equal parts, `largest` at most, that hold at least `total`."""
    parts = math.ceil(total / largest)
    return parts, math.ceil(total / parts)
