"""Cropping, resizing and blurring as weighted sums of a few rows.

Rows are contiguous in memory, so that summing rows is fast on every backend. Columns
are handled by transposing the images first. All functions act on batches.
"""

import functools
import math
import operator

import jax.numpy as jnp
from jax import Array

from isojax.data.augment.bitwise import clip, larger
from isojax.data.augment.stages import stage

# Source indices and weights of each row or column of the result.
Taps = tuple[Array, Array]


def weighted_rows(images: Array, indices: Array, weights: Array) -> Array:
    """Computes weighted sums of rows of each image.

    Args:
      images: shape (n, channels, length, width), of any type.
      indices: row indices, shape (taps, n, size), within the image.
      weights: weights of the rows, shape (taps, n, size).

    Returns:
      The sums over taps, float32, shape (n, channels, size, width).
    """
    n, channels, length, width = images.shape
    rows = images.reshape(-1, width)
    first = (length * jnp.arange(n * channels)).reshape(n, channels, 1)
    weighted = (
        weight[:, None, :, None]
        * rows.at[first + index[:, None, :]]
        .get(mode="promise_in_bounds")
        .astype(jnp.float32)
        for index, weight in zip(indices, weights, strict=True)
    )
    return functools.reduce(operator.add, weighted)


sum_rows = stage(weighted_rows)


@stage
def transpose(images: Array) -> Array:
    """Swaps rows and columns, the last two axes."""
    return jnp.swapaxes(images, -1, -2)


def bicubic_taps(
    start: Array, extent: Array, is_reversed: Array, *, length: int, size: int
) -> Taps:
    """Computes source pixels and weights of a resized axis, bicubic and antialiased.

    Args:
      start: first pixel of the box along this axis, an integer, shape (n,).
      extent: length of the box in pixels, shape (n,).
      is_reversed: whether the result is mirrored, shape (n,).
      length: length of the whole axis in pixels; the box lies within it.
      size: length of the result in pixels.

    Returns:
      Indices and weights, shape (taps, n, size). Pixels outside the box have weight
      zero, and the weights of each pixel sum to one.
    """
    start, extent = (x[:, None].astype(jnp.float32) for x in (start, extent))
    place = jnp.arange(size)[None, :]
    place = jnp.where(is_reversed[:, None], size - 1 - place, place)
    scale = extent / size
    stretch = jnp.maximum(scale, 1.0)  # antialiasing widens the kernel when shrinking
    centre = start + (place + 0.5) * scale
    first = jnp.floor(centre - 0.5 - 2 * stretch) + 1
    taps = math.ceil(4 * max(1.0, length / size))
    source = first[None] + jnp.arange(taps)[:, None, None]
    weights = _cubic((source + 0.5 - centre[None]) / stretch[None])
    is_inside = clip(source - start[None] + 1) * clip((start + extent)[None] - source)
    weights = weights * is_inside
    indices = jnp.clip(source.astype(jnp.int32), 0, length - 1)
    return indices, weights / weights.sum(axis=0, keepdims=True)


def _cubic(x: Array) -> Array:
    """Keys' cubic convolution kernel with a = -1/2, zero beyond two pixels."""
    x = jnp.abs(x)
    within_one, within_two = larger(1 - x, 0.0), larger(2 - x, 0.0)
    return within_one**2 * (1 - 2 * within_one) + 0.5 * within_two**2 * (within_two - 1)


def gaussian_taps(sigma: Array, *, length: int, kernel_size: int) -> Taps:
    """Computes source pixels and weights of a Gaussian blur along one axis.

    The axis is continued by reflection.

    Args:
      sigma: standard deviations in pixels, shape (n,); 0 does not blur.
      length: length of the axis in pixels.
      kernel_size: side of the kernel in pixels, odd.

    Returns:
      Indices and weights, shape (kernel_size, n, length).
    """
    half = kernel_size // 2
    offsets = jnp.arange(-half, half + 1)[:, None]
    sigma = sigma[None, :]
    is_blurred = sigma > 0
    density = jnp.exp(-0.5 * (offsets / jnp.where(is_blurred, sigma, 1.0)) ** 2)
    weights = jnp.where(is_blurred | (offsets == 0), density, 0.0)
    weights = weights / weights.sum(axis=0, keepdims=True)
    source = jnp.arange(length)[None, :] + offsets
    last = length - 1
    indices = last - jnp.abs(last - jnp.abs(source))
    shape = (kernel_size, sigma.shape[1], length)
    return (
        jnp.broadcast_to(indices[:, None, :], shape),
        jnp.broadcast_to(weights[:, :, None], shape),
    )
