"""Max-pooling."""

from itertools import product

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def max_pool(x: Array) -> Array:
    """3×3 max-pooling with stride 2 and padding 1.

    The gradient goes to the first of equal maxima in row-major order.

    Args:
      x: shape (n, h, w, c).

    Returns:
      Shape (n, ceil(h / 2), ceil(w / 2), c).
    """
    return jax.lax.platform_dependent(x, cpu=max_pool_slices, default=max_pool_directly)


def max_pool_directly(x: Array) -> Array:
    """Implements `max_pool` with XLA's windowed maximum."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def max_pool_slices(x: Array) -> Array:
    """Implements `max_pool` as the maximum of nine slices.

    On the CPU this is faster than the gradient of XLA's windowed maximum, which
    searches for the position of every maximum again and scatters.
    """
    height, width = ((length + 1) // 2 for length in x.shape[1:3])
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jnp.pad(x, border, constant_values=-jnp.inf)
    slices = (
        x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
        for i, j in product(range(3), repeat=2)
    )
    largest = next(slices)
    for values in slices:
        largest = jnp.where(largest >= values, largest, values)
    return largest
