"""Gaussian blur."""

import jax.numpy as jnp
from jax import Array

from isojax.data.augment.resample import gaussian_taps, sum_rows
from isojax.data.augment.stages import stage


def gaussian_blur(image: Array, sigma: Array | float, *, kernel_size: int) -> Array:
    """Blurs with a square Gaussian kernel; the image is reflected at its border.

    Args:
      image: float, shape (h, w, c).
      sigma: standard deviation in pixels, at least 0; may be traced.
      kernel_size: side of the kernel, odd, less than twice either side of the image.

    Returns:
      The blurred image, float32, shape (h, w, c).

    Raises:
      ValueError: if `kernel_size` is even, or too large for the image.
    """
    if kernel_size % 2 == 0 or kernel_size // 2 >= min(image.shape[:2]):
        raise ValueError(
            f"kernel_size must be odd and less than twice the side of an image of "
            f"shape {image.shape}; it is {kernel_size}"
        )
    sigma = jnp.asarray(sigma, jnp.float32)[None]
    columns_first = image.transpose(1, 2, 0)[None]
    return blur_batch(columns_first, sigma, kernel_size=kernel_size)[0].swapaxes(1, 2)


def blur_batch(images: Array, sigma: Array, *, kernel_size: int) -> Array:
    """Blurs each image of a batch, whose columns come first.

    Args:
      images: float, shape (n, w, c, h).
      sigma: in pixels, shape (n,); 0 leaves an image as it is.
      kernel_size: side of the kernel, odd.

    Returns:
      Float32, rows first: shape (n, h, c, w).
    """
    columns = gaussian_taps(sigma, length=images.shape[1], kernel_size=kernel_size)
    rows = gaussian_taps(sigma, length=images.shape[3], kernel_size=kernel_size)
    blurred = _rows_first(sum_rows(images, *columns))
    return sum_rows(blurred, *rows)


@stage
def _rows_first(images: Array) -> Array:
    return jnp.swapaxes(images, 1, 3)
