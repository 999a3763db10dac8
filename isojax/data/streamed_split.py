"""Splits of images that are decoded when they are read."""

from collections.abc import Callable

from isojax.data.dataset import Split
from isojax.data.folder_listing import ImageFiles
from isojax.errors import UsageError

_PACKAGES = ("array_record", "grain", "simplejpeg", "cykooz_resizer")


def streamed(
    files: ImageFiles,
    resolution: int,
    content: Callable[[int], bytes] | None = None,
) -> Split:
    """Returns the images of some files without decoding them.

    Args:
      files: the files.
      resolution: side of the square images, in pixels.
      content: returns the content of a file by its number, for files that are stored
        elsewhere.

    Raises:
      UsageError: if a package for streaming is missing.
    """
    try:
        from isojax.data.streamed_images import FileReader, StreamedImages
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    reader = FileReader(files, content)
    return Split(StreamedImages(reader, resolution), files.labels)


def missing_package(error: ModuleNotFoundError) -> Exception:
    """Returns a `UsageError` if a package for streaming is missing, else the error."""
    if error.name not in _PACKAGES:
        return error
    return UsageError(
        f"config.data.streaming=True needs the package {error.name}, which is not "
        "installed: pip install grain simplejpeg cykooz-resizer"
    )
