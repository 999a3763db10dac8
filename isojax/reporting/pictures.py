"""Images as they are shown, and as text of a page."""

import base64
import io

import numpy as np
from PIL import Image

_MOST_PIXELS = 96  # a side


def as_shown(images: np.ndarray) -> np.ndarray:
    """Images that can be drawn: in colour, or grey.

    Args:
      images: of any type, shape (..., c).

    Returns:
      float64: the same of three channels; of any other number their mean, (..., 1).
    """
    if images.shape[-1] == 3:
        return images.astype(np.float64)
    return images.mean(axis=-1, keepdims=True, dtype=np.float64)


def data_address(image: np.ndarray) -> str:
    """A data: address of a small image.

    Args:
      image: uint8, shape (h, w, c); the mean of two or of more than three channels is
        shown.
    """
    pixels = np.round(as_shown(image)).astype(np.uint8)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    picture = Image.fromarray(pixels)
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
