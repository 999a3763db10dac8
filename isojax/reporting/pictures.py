"""Converts images for drawing, and for embedding in a page."""

import base64
import io

import numpy as np
from PIL import Image

_MAX_SIDE = 96  # pixels


def as_shown(images: np.ndarray) -> np.ndarray:
    """Converts images to three channels or one.

    Args:
      images: images of any type, shape (..., c).

    Returns:
      Images with three channels unchanged, of others the mean of the channels, shape
      (..., 1); float64.
    """
    if images.shape[-1] == 3:
        return images.astype(np.float64)
    return images.mean(axis=-1, keepdims=True, dtype=np.float64)


def data_address(image: np.ndarray) -> str:
    """Returns a `data:` URL of a small image.

    Args:
      image: uint8, shape (h, w, c); see `as_shown` for other numbers of channels than
        one and three.
    """
    pixels = np.round(as_shown(image)).astype(np.uint8)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    picture = Image.fromarray(pixels)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
