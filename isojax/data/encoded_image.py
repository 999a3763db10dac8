"""Decodes image files in memory and resizes boxes of them, for streamed training."""

import math

import numpy as np
import simplejpeg
from cykooz_resizer import (
    CropBox,
    FilterType,
    ImageData,
    PixelType,
    ResizeAlg,
    ResizeOptions,
    Resizer,
)

from isojax.data.pictures import Picture, check_size

# Pillow's bicubic filter, antialiased, with vector instructions.
_BICUBIC = ResizeAlg.convolution(FilterType.catmull_rom)
_EXIF, _HEADER_BYTES = b"Exif\x00\x00", 1 << 16
# By which libjpeg-turbo can divide the sides. Others are less exact.
_REDUCTIONS = (1, 2, 4, 8)
_COLOURS = ("YCbCr", "RGB", "Gray")  # colour spaces that libjpeg-turbo turns into RGB


class EncodedImage:
    """The content of an image file, whose size is known before it is decoded.

    libjpeg-turbo decodes JPEG files, in half of Pillow's time; Pillow decodes JPEG
    files in CMYK or not upright, and other formats.

    Attributes:
      height: rows of the upright image.
      width: columns of the upright image.
    """

    def __init__(self, content: bytes):
        """Reads the header.

        Args:
          content: content of the file.

        Raises:
          UndecodableImageError: if it is not an image, or one of more than 89 million
            pixels.
        """
        self._content = content
        self._picture: Picture | None = None
        size = _jpeg_size(content)
        if size is None:
            self._picture = Picture(content)
            size = self._picture.height, self._picture.width
        self.height, self.width = size

    def pixels(self, fraction: float = 1.0) -> np.ndarray:
        """Decodes the image and turns it upright.

        Args:
          fraction: smallest acceptable size of the result, as a fraction of the sides.
            JPEG images are decoded at a half, a quarter or an eighth of their sides
            where it suffices, by leaving out high frequencies.

        Returns:
          uint8, shape (rows, columns, 3); grey images have three equal channels.

        Raises:
          UndecodableImageError: if the content is damaged.
        """
        if self._picture is None:
            reduction = max(n for n in _REDUCTIONS if n * fraction <= 1)
            try:
                return simplejpeg.decode_jpeg(
                    self._content,
                    min_height=math.ceil(self.height / reduction),
                    min_width=math.ceil(self.width / reduction),
                    min_factor=reduction,
                )
            except ValueError:
                # Pillow accepts harmless faults, such as bytes between two markers.
                self._picture = Picture(self._content)
        return self._picture.pixels()


def resize_box(
    pixels: np.ndarray,
    top: float,
    left: float,
    height: float,
    width: float,
    *,
    side: int,
) -> np.ndarray:
    """Crops a box and resizes it, bicubic and antialiased.

    The result equals that of `isojax.data.augment.resized_crop`, except that the image
    is rounded to 8 bits between resizing rows and columns, and at the end.

    Args:
      pixels: uint8, shape (rows, columns, 3).
      top: first row of the box.
      left: first column of the box.
      height: rows of the box, which lies within the image.
      width: columns of the box.
      side: side of the result, in pixels.

    Returns:
      uint8, shape (side, side, 3).
    """
    first_row, first_column = math.floor(top), math.floor(left)
    inside = pixels[
        first_row : math.ceil(top + height), first_column : math.ceil(left + width)
    ]
    rows, columns = inside.shape[:2]
    source = ImageData(columns, rows, PixelType.U8x3, inside.tobytes())
    result = ImageData(side, side, PixelType.U8x3)
    top, left = top - first_row, left - first_column
    # Rounding may move the end of a box just past the last pixel.
    box = CropBox(left, top, min(width, columns - left), min(height, rows - top))
    Resizer().resize(
        source, result, ResizeOptions(_BICUBIC, use_alpha=False, crop_box=box)
    )
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(side, side, 3)


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Returns the size of a JPEG image that Pillow need not decode, otherwise None."""
    if not simplejpeg.is_jpeg(content):
        return None
    if _EXIF in content[:_HEADER_BYTES] and Picture(content).orientation != 1:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if colours not in _COLOURS:
        return None
    check_size(height, width)
    return height, width
