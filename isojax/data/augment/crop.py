"""Random resized crops."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.data.augment.bitwise import clip
from isojax.data.augment.resample import bicubic_taps, sum_rows, weighted_rows
from isojax.data.augment.stages import stage

_ATTEMPTS = 10
BOX_DRAWS = 2 * _ATTEMPTS + 2  # uniform numbers that determine a random box

AnyArray = TypeVar("AnyArray", Array, np.ndarray)


class CropSettings(NamedTuple):
    """Random resized crops of one view.

    Attributes:
      scale: smallest and largest area, as a fraction of the image's.
      ratio: smallest and largest width over height.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]


WHOLE_IMAGE = CropSettings((1.0, 1.0), (1.0, 1.0))  # of a square image


def resized_crop(
    image: Array,
    top: Array | int,
    left: Array | int,
    height: Array | int,
    width: Array | int,
    *,
    size: int,
) -> Array:
    """Crops a box and resizes it, bicubic and antialiased, clipped to [0, 1].

    Args:
      image: float in [0, 1], shape (h, w, c).
      top: first row of the box, in pixels; may be traced, as the next three.
      left: first column of the box.
      height: rows of the box, which must lie within the image.
      width: columns of the box.
      size: side of the result, in pixels; static.

    Returns:
      The resized box, float32, shape (size, size, c).

    Example:
      >>> image = jnp.zeros((8, 8, 3)).at[2:6, 2:6].set(1.0)
      >>> crop = resized_crop(image, 2, 2, 4, 4, size=8)
      >>> crop.shape, float(crop.min())
      ((8, 8, 3), 1.0)
    """
    transposed = crop_batch(
        image[None],
        jnp.asarray(top)[None],
        jnp.asarray(left)[None],
        jnp.asarray(height)[None],
        jnp.asarray(width)[None],
        is_flipped=jnp.zeros((1,), bool),
        size=size,
    )
    return transposed[0].transpose(2, 1, 0)


def crop_batch(
    images: Array,
    top: Array,
    left: Array,
    height: Array,
    width: Array,
    is_flipped: Array,
    *,
    size: int,
) -> Array:
    """Crops each image of a batch as `resized_crop` does, and mirrors some.

    Args:
      images: float in [0, 1] or uint8, shape (n, h, w, c).
      top: first row of each box, shape (n,), as the next three.
      left: first column of each box.
      height: rows of each box.
      width: columns of each box.
      is_flipped: which images are mirrored left to right, shape (n,).
      size: side of the result, in pixels.

    Returns:
      Float32 in [0, 1], transposed: shape (n, c, columns, rows).
    """
    n, height_in, width_in, channels = images.shape
    upright = jnp.zeros_like(is_flipped)
    rows = bicubic_taps(top, height, upright, length=height_in, size=size)
    indices, weights = bicubic_taps(left, width, is_flipped, length=width_in, size=size)
    if images.dtype == jnp.uint8:
        weights = weights / 255.0
    cropped = sum_rows(images.reshape(n, 1, height_in, -1), *rows)
    cropped = _channels_first(cropped.reshape(n, size, width_in, channels))
    return _clipped_rows(cropped, indices, weights)


def mirror_batch(images: Array, is_flipped: Array) -> Array:
    """Mirrors some images, which are not cropped.

    Args:
      images: float in [0, 1] or uint8, square, shape (n, size, size, c).
      is_flipped: which images are mirrored left to right, shape (n,).

    Returns:
      Float32 in [0, 1], transposed: shape (n, c, columns, rows).
    """
    scale = 255.0 if images.dtype == jnp.uint8 else 1.0
    images = _channels_first(images.astype(jnp.float32) / scale)
    return jnp.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)


@stage
def _clipped_rows(images: Array, indices: Array, weights: Array) -> Array:
    return clip(weighted_rows(images, indices, weights))


@stage
def _channels_first(images: Array) -> Array:
    """Shape (n, rows, columns, c) to (n, c, columns, rows)."""
    return images.transpose(0, 3, 2, 1)


def random_crop_box(
    key: Array,
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Array, Array, Array, Array]:
    """Draws the box of a random resized crop.

    The area is uniform in `scale` and the logarithm of the aspect ratio is uniform in
    that of `ratio`. The first of ten draws that fits is used. If none fits, the box is
    the largest central one of an allowed ratio.

    Args:
      key: random key.
      height: rows of the image.
      width: columns of the image.
      scale: smallest and largest area, as a fraction of the image's.
      ratio: smallest and largest width over height.

    Returns:
      top, left, height, width of the box, scalar integers, in pixels.

    Example:
      >>> key, quarter, square = jax.random.key(0), (0.25, 0.25), (1.0, 1.0)
      >>> top, left, *size = random_crop_box(key, 32, 32, scale=quarter, ratio=square)
      >>> [int(side) for side in size]
      [16, 16]

    Source: Szegedy et al. 2015, section 6; parameters as in torchvision's
    RandomResizedCrop.
    """
    uniform = jax.random.uniform(key, (BOX_DRAWS,), jnp.float32)
    return crop_box(uniform, height, width, scale=scale, ratio=ratio)


def crop_box(
    uniform: AnyArray,
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """Computes the box of `random_crop_box` from (..., BOX_DRAWS) numbers in [0, 1).

    The numbers are float32, in a JAX array or, on the host, in a NumPy array.
    """
    xp = uniform.__array_namespace__()
    area_draws, ratio_draws, place_draws = xp.split(
        uniform, [_ATTEMPTS, 2 * _ATTEMPTS], axis=-1
    )
    areas = height * width * _between(area_draws, *scale)
    ratios = xp.exp(_between(ratio_draws, *xp.log(xp.array(ratio, xp.float32))))
    widths = xp.round(xp.sqrt(areas * ratios)).astype(xp.int32)
    heights = xp.round(xp.sqrt(areas / ratios)).astype(xp.int32)
    fits = (widths > 0) & (heights > 0) & (widths <= width) & (heights <= height)
    any_fits = fits.any(axis=-1)
    first = xp.argmax(fits, axis=-1, keepdims=True)
    box_ratio = min(max(width / height, ratio[0]), ratio[1])
    central_width = min(width, round(height * box_ratio))
    central_height = min(height, round(width / box_ratio))

    def side(drawn: AnyArray, central: int) -> AnyArray:
        chosen = xp.take_along_axis(drawn, first, axis=-1)[..., 0]
        return xp.where(any_fits, chosen, central)

    def start(draw: AnyArray, length: int, extent: AnyArray) -> AnyArray:
        place = xp.floor(draw * (length - extent + 1)).astype(xp.int32)
        # Rounding may move a draw just below one past the last place.
        place = xp.minimum(place, length - extent)
        return xp.where(any_fits, place, (length - extent) // 2)

    box_height, box_width = side(heights, central_height), side(widths, central_width)
    top = start(place_draws[..., 0], height, box_height)
    left = start(place_draws[..., 1], width, box_width)
    return top, left, box_height, box_width


def _between(
    uniform: AnyArray, low: AnyArray | float, high: AnyArray | float
) -> AnyArray:
    return low + (high - low) * uniform
