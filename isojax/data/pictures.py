"""Opens and decodes image files with Pillow."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from isojax.errors import first_line

MOST_PIXELS = 89_000_000  # 267 MB; Pillow warns of slightly larger images
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 5 to 8 swap rows and columns

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")

T = TypeVar("T")


class UndecodableImageError(Exception):
    """A file is not an image, or is damaged or too large."""


class Picture:
    """An image file in memory, whose size is known before it is decoded.

    Attributes:
      orientation: the EXIF orientation, 1 to 8; 1 is upright.
      height: rows of the upright image.
      width: columns of the upright image.
    """

    def __init__(self, content: bytes):
        """Reads the header.

        Args:
          content: content of the file, in any format that Pillow reads.

        Raises:
          UndecodableImageError: if it is not an image, or one of more than 89 million
            pixels.
        """
        self._picture = _attempt(lambda: Image.open(io.BytesIO(content)))
        exif = _attempt(self._picture.getexif)
        self.orientation = int(exif.get(_ORIENTATION, 1))
        size = self._picture.size
        self.width, self.height = size if self.orientation < 5 else size[::-1]
        check_size(self.height, self.width)

    def pixels(self) -> np.ndarray:
        """Decodes the image and turns it upright.

        Returns:
          uint8, shape (rows, columns, 3). Grey images have three equal channels,
          16-bit images keep the upper 8 bits, and transparency is ignored.

        Raises:
          UndecodableImageError: if the content is damaged.
        """
        return _attempt(lambda: np.asarray(_to_rgb(self._picture)))


def is_grey(path: Path) -> bool:
    """Returns whether an image file holds grey values, from its header.

    Raises:
      UndecodableImageError: if the file cannot be read or is not an image.
    """

    def mode() -> str:
        with Image.open(path) as picture:
            return picture.mode

    found = _attempt(mode)
    return found in _GREY_MODES or found.startswith("I;16")


def check_size(height: int, width: int) -> None:
    """Checks that an image is small enough to be decoded in memory.

    Raises:
      UndecodableImageError: if it has more than 89 million pixels.
    """
    if height * width > MOST_PIXELS:
        raise UndecodableImageError(
            f"it has {width:,}x{height:,} pixels, more than {MOST_PIXELS:,}"
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        upper = np.asarray(picture).astype(np.uint32) >> 8
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _attempt(read: Callable[[], T]) -> T:
    """Calls a function that reads a file whose content may be arbitrary bytes."""
    try:
        return read()
    except UnidentifiedImageError as error:  # its message is the object's address
        raise UndecodableImageError("not an image of a known format") from error
    except Exception as error:  # Pillow raises many types, depending on the format
        raise UndecodableImageError(first_line(error)) from error
