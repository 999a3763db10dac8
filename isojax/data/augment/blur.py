"""Gaussian blur."""

import jax.numpy as jnp
from jax import Array

from isojax.data.augment.resample import gaussian_taps, sum_rows, transpose


def gaussian_blur(image: Array, sigma: Array | float, *, kernel_size: int) -> Array:
    """Blurs an image with a square Gaussian kernel, reflecting it at its border.

    Args:
      image: float, shape (h, w, c).
      sigma: standard deviation in pixels, at least 0; may be traced.
      kernel_size: side of the kernel, odd, less than twice either side of the image.

    Returns:
      The blurred image, float32, shape (h, w, c).

    Raises:
      ValueError: if `kernel_size` is even, or too large for the image.

    Example:
      >>> line = jnp.tile(jnp.array([[[0.0], [0.0], [1.0], [0.0], [0.0]]]), (3, 1, 1))
      >>> blurred = gaussian_blur(line, 1.0, kernel_size=3)[0, :, 0]
      >>> [round(float(value), 3) for value in blurred]
      [0.0, 0.274, 0.452, 0.274, 0.0]
    """
    if kernel_size % 2 == 0 or kernel_size // 2 >= min(image.shape[:2]):
        raise ValueError(
            f"kernel_size={kernel_size} must be odd and less than twice the side of an "
            f"image of shape {image.shape}"
        )
    sigma = jnp.asarray(sigma, jnp.float32)[None]
    channels_first = image.transpose(2, 1, 0)[None]
    blurred = blur_batch(channels_first, sigma, kernel_size=kernel_size)
    return blurred[0].transpose(1, 2, 0)


def blur_batch(images: Array, sigma: Array, *, kernel_size: int) -> Array:
    """Blurs each image of a batch.

    Args:
      images: float, transposed: shape (n, c, columns, rows).
      sigma: standard deviations in pixels, shape (n,); 0 does not blur.
      kernel_size: side of the kernel, odd.

    Returns:
      Float32, shape (n, c, rows, columns).
    """
    columns = gaussian_taps(sigma, length=images.shape[2], kernel_size=kernel_size)
    rows = gaussian_taps(sigma, length=images.shape[3], kernel_size=kernel_size)
    return sum_rows(transpose(sum_rows(images, *columns)), *rows)
