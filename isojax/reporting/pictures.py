"""Images as text of a page."""

import base64
import io

import numpy as np
from PIL import Image

_MOST_PIXELS = 96  # a side


def data_address(image: np.ndarray) -> str:
    """A data: address of a small image.

    Args:
      image: uint8, shape (h, w, c), of one or three channels; others are shown grey.
    """
    pixels = image if image.shape[-1] == 3 else image[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
