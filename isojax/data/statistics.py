"""Mean and standard deviation of each channel of an image set."""

import numpy as np

_MOST_BYTES = 512e6
_CHUNK_BYTES = 8e6
_DECIMALS = 4


def channel_statistics(
    images: np.ndarray,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of each channel, for pixels in [0, 1].

    Computed with integers, so that the result is the same on every machine. For sets
    above 512 MB, an evenly spaced subset of the images is read.

    Args:
      images: uint8, shape (n, h, w, c), in memory or mapped from a file.

    Returns:
      Means and standard deviations, (c,) each, rounded to four decimals.
    """
    images = images[:: max(1, int(np.ceil(images.nbytes / _MOST_BYTES)))]
    channels = images.shape[-1]
    # First sums for each pixel position, because sums along axis 0 are fast.
    sums, squares = np.zeros((2, *images.shape[1:]), np.int64)
    chunk = max(1, int(_CHUNK_BYTES / images[0].nbytes))
    for first in range(0, len(images), chunk):
        pixels = images[first : first + chunk]
        sums += pixels.sum(axis=0, dtype=np.int64)
        squares += np.square(pixels, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    sums, squares = (x.sum(axis=(0, 1)) for x in (sums, squares))
    count = images.size // channels
    mean = sums / (255 * count)
    # count * squares - sums^2 is exact with Python's integers.
    variance = [
        (count * int(square) - int(total) ** 2) / (255 * count) ** 2
        for square, total in zip(squares, sums, strict=True)
    ]
    return tuple(_rounded(mean)), tuple(_rounded(np.sqrt(variance)))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]
