"""Augmentation on the device: pure functions of one image, batched with `jax.vmap`.

Images are float in [0, 1], shape (h, w, c). Operations named as torchvision's compute
what torchvision's do. Random views take a key and a config section and draw every
random number from the key.
"""

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

_CROP_ATTEMPTS = 10


def adjust_brightness(image: Array, factor: Array | float) -> Array:
    """Multiplies the image by `factor` and clips to [0, 1]; shape (h, w, c)."""
    return jnp.clip(image * factor, 0.0, 1.0)


def adjust_contrast(image: Array, factor: Array | float) -> Array:
    """Blends the image with its mean grey level: 0 is flat grey, 1 the image.

    Args:
      image: float in [0, 1], shape (h, w, 1) or (h, w, 3).
      factor: non-negative weight of the image.

    Returns:
      The blended image, clipped to [0, 1], shape as `image`.
    """
    grey = rgb_to_grayscale(image) if image.shape[-1] == 3 else image
    return jnp.clip(factor * image + (1.0 - factor) * grey.mean(), 0.0, 1.0)


def rgb_to_grayscale(image: Array) -> Array:
    """Luma of ITU-R BT.601, repeated in every channel; shape (h, w, 3)."""
    luma = image @ jnp.array([[0.2989], [0.587], [0.114]], image.dtype)
    return jnp.broadcast_to(luma, image.shape)


def resized_crop(
    image: Array,
    top: Array | int,
    left: Array | int,
    height: Array | int,
    width: Array | int,
    *,
    size: int,
) -> Array:
    """Cuts out a box and resizes it, bicubic and antialiased, clipped to [0, 1].

    Args:
      image: float in [0, 1], shape (h, w, c).
      top: first row of the box, in pixels; may be traced, as the next three.
      left: first column of the box.
      height: rows of the box.
      width: columns of the box.
      size: side of the result, in pixels; static.

    Returns:
      The resized box, shape (size, size, c).
    """
    rows = _resize_weights(image.shape[0], top, height, size).astype(image.dtype)
    columns = _resize_weights(image.shape[1], left, width, size).astype(image.dtype)
    resized = jnp.einsum("ph,hwc,qw->pqc", rows, image, columns)
    return jnp.clip(resized, 0.0, 1.0)


def _resize_weights(
    length: int, start: Array | int, extent: Array | int, size: int
) -> Array:
    """Weights (size, length) of a bicubic antialiased resize of one axis of a box."""
    scale = extent / size
    stretch = jnp.maximum(scale, 1.0)  # antialiasing widens the kernel when shrinking
    source = jnp.arange(length)[None, :]
    centre = start + (jnp.arange(size)[:, None] + 0.5) * scale
    weights = _cubic((source + 0.5 - centre) / stretch)
    inside = (source >= start) & (source < start + extent)
    weights = jnp.where(inside, weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(x: Array) -> Array:
    """Keys' cubic convolution kernel with a = -1/2, zero beyond two pixels."""
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def affine(image: Array, matrix: Array, shift: Array) -> Array:
    """Samples the image bilinearly where a linear map sends each pixel.

    Args:
      image: shape (h, w, c).
      matrix: (2, 2), from (row, column) of the result to that of `image`, both measured
        from the centre.
      shift: (2,), added after `matrix`, in pixels (rows, columns).

    Returns:
      The warped image, shape (h, w, c), zero where the source lies outside.
    """
    height, width = image.shape[:2]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.stack(jnp.mgrid[:height, :width]).astype(jnp.float32)
    offset = grid - centre[:, None, None]
    source = jnp.einsum("ij,jhw->ihw", matrix, offset) + (centre + shift)[:, None, None]
    sample = jax.vmap(
        lambda channel: jax.scipy.ndimage.map_coordinates(channel, source, order=1),
        in_axes=-1,
        out_axes=-1,
    )
    return sample(image)


def random_crop_box(
    key: Array,
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Array, Array, Array, Array]:
    """Draws the box of a random resized crop.

    The area is uniform in `scale`, the logarithm of the aspect ratio uniform; of ten
    draws the first that fits is taken, and the largest central box of an allowed ratio
    when none does.

    Args:
      key: random key.
      height: rows of the image.
      width: columns of the image.
      scale: smallest and largest area, as a part of the image's.
      ratio: smallest and largest width over height.

    Returns:
      top, left, height, width of the box, scalar integers, in pixels.

    Source: Szegedy et al. 2015, section 6; parameters as in torchvision's
    RandomResizedCrop.
    """
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    areas = (
        height
        * width
        * jax.random.uniform(
            area_key, (_CROP_ATTEMPTS,), minval=scale[0], maxval=scale[1]
        )
    )
    log_ratio = jnp.log(jnp.array(ratio))
    ratios = jnp.exp(
        jax.random.uniform(
            ratio_key, (_CROP_ATTEMPTS,), minval=log_ratio[0], maxval=log_ratio[1]
        )
    )
    widths = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    fits = (widths > 0) & (heights > 0) & (widths <= width) & (heights <= height)
    first = jnp.argmax(fits)
    box_ratio = min(max(width / height, ratio[0]), ratio[1])
    central_width = min(width, round(height * box_ratio))
    central_height = min(height, round(width / box_ratio))
    box_height = jnp.where(fits.any(), heights[first], central_height)
    box_width = jnp.where(fits.any(), widths[first], central_width)
    top = jax.random.randint(top_key, (), 0, height - box_height + 1)
    left = jax.random.randint(left_key, (), 0, width - box_width + 1)
    top = jnp.where(fits.any(), top, (height - central_height) // 2)
    left = jnp.where(fits.any(), left, (width - central_width) // 2)
    return top, left, box_height, box_width


def affine_view(key: Array, image: Array, *, config: ConfigDict) -> Array:
    """A random view of a drawing: crop, small affine map, brightness and contrast.

    Args:
      key: random key.
      image: float in [0, 1], square, shape (size, size, c).
      config: section with `crop_scale`, `crop_ratio` (as in `random_crop_box`),
        `rotation` (degrees), `log_scale`, `log_aspect`, `shear`, `shift` (part of the
        side), `brightness`, `contrast`: each the largest deviation either way.

    Returns:
      The view, float in [0, 1], shape as `image`.
    """
    crop_key, warp_key, shift_key, brightness_key, contrast_key = jax.random.split(
        key, 5
    )
    size = image.shape[0]
    if tuple(config.crop_scale) != (1.0, 1.0):
        box = random_crop_box(
            crop_key,
            size,
            size,
            scale=tuple(config.crop_scale),
            ratio=tuple(config.crop_ratio),
        )
        image = resized_crop(image, *box, size=size)
    uniform = jax.random.uniform(warp_key, (4,), minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(config.rotation) * uniform[0]
    log_scale = config.log_scale * uniform[1]
    log_aspect = config.log_aspect * uniform[2]
    shear = config.shear * uniform[3]
    rotation = jnp.array(
        [[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]
    )
    stretch = jnp.diag(jnp.exp(-log_scale + jnp.array([0.5, -0.5]) * log_aspect))
    shift = jax.random.uniform(shift_key, (2,), minval=-1.0, maxval=1.0)
    image = affine(
        image,
        rotation @ stretch @ jnp.array([[1.0, 0.0], [shear, 1.0]]),
        config.shift * size * shift,
    )
    brightness = _factor(brightness_key, config.brightness)
    contrast = _factor(contrast_key, config.contrast)
    return adjust_contrast(adjust_brightness(image, brightness), contrast)


def _factor(key: Array, deviation: float) -> Array:
    return jax.random.uniform(key, minval=1.0 - deviation, maxval=1.0 + deviation)


def normalize(images: Array, *, mean: tuple, std: tuple) -> Array:
    """Subtracts `mean`, divides by `std`, one value a channel; shape (..., h, w, c)."""
    shape = (1,) * (images.ndim - 1) + (-1,)
    mean = jnp.array(mean, images.dtype).reshape(shape)
    std = jnp.array(std, images.dtype).reshape(shape)
    return (images - mean) / std
