"""Mean and standard deviation of each channel of an image set."""

import math

import numpy as np

from isojax.data.dataset import ImageArray

_MOST_BYTES = 512e6
_CHUNK_BYTES = 8e6
_DECIMALS = 4


def channel_statistics(
    images: ImageArray,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of each channel, for pixels in [0, 1].

    Computed with integers, so that the result is the same on every machine. For sets
    above 512 MB, an evenly spaced subset of the images is read.

    Args:
      images: uint8, shape (n, h, w, c).

    Returns:
      Means and standard deviations, (c,) each, rounded to four decimals.
    """
    images = images[:: max(1, int(np.ceil(images.nbytes / _MOST_BYTES)))]
    # First sums for each pixel position, because sums along axis 0 are fast.
    sums, squares = np.zeros((2, *images.shape[1:]), np.int64)
    chunk = max(1, int(_CHUNK_BYTES / np.prod(images.shape[1:])))
    for first in range(0, len(images), chunk):
        pixels = np.asarray(images[first : first + chunk])
        sums += pixels.sum(axis=0, dtype=np.int64)
        squares += np.square(pixels, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    sums, squares = (x.sum(axis=(0, 1)) for x in (sums, squares))
    count = math.prod(images.shape[:3])
    mean = sums / (255 * count)
    # count * squares - sums^2 is exact with Python's integers.
    variance = [
        (count * int(square) - int(total) ** 2) / (255 * count) ** 2
        for square, total in zip(squares, sums, strict=True)
    ]
    return tuple(_rounded(mean)), tuple(_rounded(np.sqrt(variance)))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]
