"""Random views of drawings: crop, small affine maps, brightness and contrast."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.data.augment.colour import adjust_brightness, adjust_contrast
from isojax.data.augment.crop import random_crop_box, resized_crop

# By default an accelerator rounds factors to 10 bits or fewer, which moves a pixel's
# source by hundredths of a pixel.
_PRECISION = jax.lax.Precision.HIGHEST


class AffineSettings(NamedTuple):
    """Settings of `affine_view`. Deviations are the largest in either direction.

    Attributes:
      crop_scale: smallest and largest area of the crop, as a fraction of the image's.
        (1, 1) does not crop.
      crop_ratio: smallest and largest width over height of the crop.
      rotation: deviation of the angle, in degrees.
      log_scale: deviation of the logarithm of the size.
      log_aspect: deviation of the logarithm of width over height.
      shear: deviation of the shear, in columns per row.
      shift: deviation of the position, as a fraction of the side.
      brightness: deviation of the brightness factor from 1.
      contrast: deviation of the contrast factor from 1.
    """

    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    rotation: float
    log_scale: float
    log_aspect: float
    shear: float
    shift: float
    brightness: float
    contrast: float


def affine(image: Array, matrix: Array, shift: Array) -> Array:
    """Warps an image by an affine map, with bilinear sampling.

    Args:
      image: shape (h, w, c).
      matrix: (2, 2), maps (row, column) of the result to (row, column) of `image`, both
        measured from the centre.
      shift: (2,), added after `matrix`, in pixels (rows, columns).

    Returns:
      The warped image, shape (h, w, c), zero where the source lies outside.

    Example:
      >>> row = jnp.array([[[0.0], [1.0], [0.0]]])
      >>> affine(row, jnp.eye(2), jnp.array([0.0, 1.0]))[0, :, 0].tolist()
      [1.0, 0.0, 0.0]
    """
    height, width = image.shape[:2]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], jnp.float32)
    grid = jnp.stack(jnp.mgrid[:height, :width]).astype(jnp.float32)
    offset = grid - centre[:, None, None]
    source = jnp.einsum("ij,jhw->ihw", matrix, offset, precision=_PRECISION)
    source = source + (centre + shift)[:, None, None]
    sample = jax.vmap(
        lambda channel: jax.scipy.ndimage.map_coordinates(
            channel, list(source), order=1
        ),
        in_axes=-1,
        out_axes=-1,
    )
    return sample(image)


def affine_view(key: Array, image: Array, *, config: AffineSettings) -> Array:
    """Returns a random view of a drawing: crop, affine map, brightness and contrast.

    Args:
      key: random key.
      image: float in [0, 1], square, shape (size, size, c).
      config: settings of the view.

    Returns:
      The view, float in [0, 1], shape as `image`.

    Example:
      >>> settings = AffineSettings(
      ...     crop_scale=(1.0, 1.0),
      ...     crop_ratio=(0.75, 1.33),
      ...     rotation=18.0,
      ...     log_scale=0.15,
      ...     log_aspect=0.12,
      ...     shear=0.25,
      ...     shift=0.06,
      ...     brightness=0.3,
      ...     contrast=0.3,
      ... )
      >>> affine_view(jax.random.key(0), jnp.ones((28, 28, 1)), config=settings).shape
      (28, 28, 1)
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
            scale=config.crop_scale,
            ratio=config.crop_ratio,
        )
        image = resized_crop(image, *box, size=size)
    uniform = jax.random.uniform(warp_key, (4,), jnp.float32, minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(config.rotation) * uniform[0]
    log_scale = config.log_scale * uniform[1]
    log_aspect = config.log_aspect * uniform[2]
    shear = config.shear * uniform[3]
    rotation = jnp.array(
        [[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]
    )
    halves = jnp.array([0.5, -0.5], jnp.float32)
    stretch = jnp.diag(jnp.exp(-log_scale + halves * log_aspect))
    rotation_and_stretch = jnp.matmul(rotation, stretch, precision=_PRECISION)
    skew = jnp.array([[1.0, 0.0], [shear, 1.0]])
    shift = jax.random.uniform(shift_key, (2,), jnp.float32, minval=-1.0, maxval=1.0)
    image = affine(
        image,
        jnp.matmul(rotation_and_stretch, skew, precision=_PRECISION),
        config.shift * size * shift,
    )
    brightness = _factor(brightness_key, config.brightness)
    contrast = _factor(contrast_key, config.contrast)
    return adjust_contrast(adjust_brightness(image, brightness), contrast)


def affine_views(keys: Array, images: Array, *, config: AffineSettings) -> Array:
    """Returns a view of each image by its own key, as `affine_view`.

    Args:
      keys: random keys, shape (n,).
      images: uint8, square, shape (n, size, size, c).
      config: settings of the views.

    Returns:
      The views, float32 in [0, 1], shape as `images`.
    """
    view = jax.vmap(lambda key, image: affine_view(key, image, config=config))
    return view(keys, images.astype(jnp.float32) / 255.0)


def _factor(key: Array, deviation: float) -> Array:
    low = max(0.0, 1.0 - deviation)
    return jax.random.uniform(key, (), jnp.float32, minval=low, maxval=1.0 + deviation)
