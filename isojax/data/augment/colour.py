"""Colour operations, each equal to torchvision's function of the same name.

Public functions take one image, float in [0, 1], shape (h, w, 3). Functions named
`*_of_channels` take arrays (..., 3, m), whose last axis is long and contiguous.
"""

import jax.numpy as jnp
from jax import Array

from isojax.data.augment.bitwise import clip, flip_sign, larger, smaller

# ITU-R BT.601, rounded as torchvision rounds it.
_LUMA = (0.2989, 0.587, 0.114)


def adjust_brightness(image: Array, factor: Array | float) -> Array:
    """Multiplies the image by `factor` and clips to [0, 1]; shape (h, w, c).

    Example:
      >>> float(adjust_brightness(jnp.full((2, 2, 3), 0.25), 2.0).max())
      0.5
    """
    return clip(image * factor)


def adjust_contrast(image: Array, factor: Array | float) -> Array:
    """Blends the image with its mean grey level: 0 is flat grey, 1 the image.

    Args:
      image: float in [0, 1], shape (h, w, 1) or (h, w, 3).
      factor: non-negative weight of the image.

    Returns:
      The blended image, clipped to [0, 1], shape as `image`.

    Example:
      >>> image = jnp.array([[[0.0], [0.5]]])  # the mean is 0.25
      >>> adjust_contrast(image, 0.5)[0, :, 0].tolist()
      [0.125, 0.375]
    """
    grey = luma_of_channels(image[..., None]) if image.shape[-1] == 3 else image
    return _blend(image, grey.mean(), factor)


def adjust_saturation(image: Array, factor: Array | float) -> Array:
    """Blends the image with its grey-scale version: 0 is grey, 1 the image.

    Args:
      image: float in [0, 1], shape (h, w, 3).
      factor: non-negative weight of the image.

    Returns:
      The blended image, clipped to [0, 1], shape (h, w, 3).

    Example:
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [round(float(value), 3) for value in adjust_saturation(red, 0.0)[0, 0]]
      [0.299, 0.299, 0.299]
    """
    return _blend(image, luma_of_channels(image[..., None])[..., 0], factor)


def adjust_hue(image: Array, delta: Array | float) -> Array:
    """Shifts the hue, keeping the largest and smallest channel of each pixel.

    Args:
      image: float in [0, 1], shape (h, w, 3).
      delta: shift as a fraction of a full turn, in [-1/2, 1/2].

    Returns:
      The image with shifted hue, shape (h, w, 3).

    Example:
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> adjust_hue(red, 1 / 3)[0, 0].tolist()  # green
      [0.0, 1.0, 0.0]
    """
    return shift_hue_of_channels(image[..., None], delta)[..., 0]


def rgb_to_grayscale(image: Array) -> Array:
    """Computes the luma of ITU-R BT.601 in every channel; shape (h, w, 3).

    Example:
      >>> green = jnp.array([[[0.0, 1.0, 0.0]]])
      >>> [round(float(value), 3) for value in rgb_to_grayscale(green)[0, 0]]
      [0.587, 0.587, 0.587]
    """
    return jnp.broadcast_to(luma_of_channels(image[..., None])[..., 0], image.shape)


def solarize(image: Array, threshold: Array | float = 0.5) -> Array:
    """Inverts every value of at least `threshold`; any shape.

    Example:
      >>> solarize(jnp.array([0.25, 0.75])).tolist()
      [0.25, 0.25]
    """
    return jnp.where(image >= threshold, 1.0 - image, image)


def luma_of_channels(image: Array) -> Array:
    """Computes the luma of ITU-R BT.601; (..., 3, m) to (..., 1, m).

    One channel, (..., 1, m), is its own luma.
    """
    if image.shape[-2] == 1:
        return image
    red, green, blue = (w * image[..., i : i + 1, :] for i, w in enumerate(_LUMA))
    return red + green + blue


def shift_hue_of_channels(image: Array, delta: Array | float) -> Array:
    """Shifts the hue by `delta`, as `adjust_hue`, for images of shape (..., 3, m).

    With red, green and blue at hues 0, 2 and 4 of a circle of length 6, a channel at
    distance d from the hue equals the smallest channel plus the chroma times
    clip(2 - d, 0, 1). Multiplied by the chroma, d of red is green + blue - red +
    largest - 2 smallest, and the hue lies on the side of the larger of green and blue;
    the other channels follow by rotation. This avoids case distinctions and divisions,
    which are slow.
    """
    r, g, b = (image[..., i : i + 1, :] for i in range(3))
    largest = larger(larger(r, g), b)
    smallest = smaller(smaller(r, g), b)
    chroma = largest - smallest
    step = 6 * delta * chroma

    def channel(this: Array, following: Array, last: Array) -> Array:
        distance = following + last - this + (largest - 2 * smallest)
        moved = jnp.abs(distance + flip_sign(step, following - last))
        moved = smaller(moved, 6 * chroma - moved)
        return smallest + smaller(larger(2 * chroma - moved, 0.0), chroma)

    return jnp.concatenate(
        [channel(r, g, b), channel(g, b, r), channel(b, r, g)], axis=-2
    )


def _blend(image: Array, reference: Array, factor: Array | float) -> Array:
    return clip(factor * image + (1.0 - factor) * reference)
