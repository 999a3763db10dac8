"""Image files that are decoded each time they are read, like a large array."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image
from tqdm import tqdm

from isojax.data.encoded_image import EncodedImage, resize_box
from isojax.data.folder_listing import ImageFiles
from isojax.data.loader import load_batches
from isojax.data.pictures import UndecodableImageError
from isojax.errors import UsageError, first_line
from isojax.output import print_line

CENTRE = 224 / 256  # side of the centre crop, as a fraction of the image's shorter side
# Sides of the boxes in an image that is decoded at a smaller size, relative to those of
# the result. With 1.5, pixels differ by 2 of 255 levels on average.
_HEADROOM = 1.5
_MOST_BROKEN = 0.01  # fraction of the files
_GREY = 128

T = TypeVar("T")


class FileReader:
    """Reads image files by number, and replaces those that cannot be decoded.

    A file that cannot be decoded is reported once and replaced by a uniformly grey
    image of one pixel, whenever it is read.
    """

    def __init__(
        self, files: ImageFiles, content: Callable[[int], bytes] | None = None
    ):
        """Creates a reader.

        Args:
          files: the files.
          content: returns the content of a file by its number, for files that are
            stored elsewhere; called in several threads.
        """
        self.files = files
        self._content = content or self._read
        self._broken: set[str] = set()
        self._lock = threading.Lock()

    def read(self, number: int, use: Callable[[EncodedImage], T]) -> T:
        """Applies a function to an image; safe to call in several threads.

        Args:
          number: number of the file.
          use: maps the image to the result.

        Raises:
          UsageError: if the file cannot be read, or more than a hundredth of the files
            cannot be decoded.
        """
        name = self.files.names[number]
        if name not in self._broken:
            try:
                return use(EncodedImage(self._content(number)))
            except UndecodableImageError as error:
                self._report(name, first_line(error))
        return use(EncodedImage(_grey_pixel()))

    def _read(self, number: int) -> bytes:
        path = self.files.root / self.files.names[number]
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read ({first_line(error)}); restore it and run the "
                "same command again"
            ) from error

    def _report(self, name: str, reason: str) -> None:
        with self._lock:
            if name in self._broken:
                return
            self._broken.add(name)
            count, total = len(self._broken), len(self.files.names)
        path = self.files.root / name
        if count > max(1, _MOST_BROKEN * total):
            raise UsageError(
                f"{count:,} of the {total:,} image files in {self.files.root} cannot "
                f"be decoded, such as {path} ({reason}); replace or remove them"
            )
        print_line(
            f"{path} cannot be decoded ({reason}); it is replaced by a grey image.",
            write=tqdm.write,
        )


class StreamedImages:
    """The centre crops of image files, decoded when they are read.

    It behaves like an array of shape (n, side, side, 3) and type uint8: slices, index
    arrays and boolean masks select images without decoding them, and `np.asarray`
    decodes the selected ones.

    Attributes:
      reader: reader of the files.
      numbers: the images' numbers among the files, shape (n,).
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self, reader: FileReader, side: int, numbers: np.ndarray | None = None
    ):
        """Creates the array.

        Args:
          reader: reader of the files.
          side: side of the images, in pixels.
          numbers: the images' numbers among the files; by default all.
        """
        self.reader = reader
        self.numbers = (
            np.arange(len(reader.files.names)) if numbers is None else numbers
        )
        self._side = side

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array."""
        return (len(self.numbers), self._side, self._side, 3)

    @property
    def nbytes(self) -> int:
        """Bytes that all decoded images would take."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.numbers)

    def __getitem__(self, index: slice | np.ndarray) -> "StreamedImages":
        """Selects images without decoding them."""
        return StreamedImages(self.reader, self._side, self.numbers[index])

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray:
        """Decodes all images."""
        if copy is False:
            raise ValueError("decoding images always makes a copy")
        if not len(self):
            return np.zeros(self.shape, dtype or self.dtype)
        (images,) = self.batches(len(self))
        return images.astype(dtype or self.dtype, copy=False)

    def names(self) -> list[str]:
        """Returns the path of each image's file, relative to the root of the files."""
        return [self.reader.files.names[number] for number in self.numbers]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Decodes the images in order, the next batch while one is used.

        Args:
          size: images per batch. The last batch may be smaller.

        Yields:
          uint8, shape (size, side, side, 3).
        """
        return load_batches(self._decode, len(self), batch_size=size)

    def _decode(self, index: int) -> np.ndarray:
        return self.reader.read(int(self.numbers[index]), self._centre)

    def _centre(self, image: EncodedImage) -> np.ndarray:
        side = CENTRE * min(image.height, image.width)
        top, left = (image.height - side) / 2, (image.width - side) / 2
        return crop(image, [(top, left, side, side)], side=self._side)[0]


def crop(
    image: EncodedImage,
    boxes: Sequence[Sequence[float]],
    *,
    side: int,
) -> np.ndarray:
    """Decodes an image once and resizes boxes of it, bicubic and antialiased.

    The image is decoded at a smaller size if every box is still larger than the result.

    Args:
      image: the image.
      boxes: top, left, height and width of each box, in pixels of the image.
      side: side of the results, in pixels.

    Returns:
      uint8, shape (boxes, side, side, 3).
    """
    smallest = min(min(height, width) for _, _, height, width in boxes)
    pixels = image.pixels(min(1.0, _HEADROOM * side / smallest))
    rows, columns = pixels.shape[0] / image.height, pixels.shape[1] / image.width
    resized = [
        resize_box(
            pixels,
            top * rows,
            left * columns,
            height * rows,
            width * columns,
            side=side,
        )
        for top, left, height, width in boxes
    ]
    return np.stack(resized)


def _grey_pixel() -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1), _GREY).save(file, "PNG")
    return file.getvalue()
