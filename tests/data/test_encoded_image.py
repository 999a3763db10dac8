"""Image files that are decoded for streaming, and boxes of them."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isojax.data import augment, pictures
from isojax.data.encoded_image import EncodedImage, resize_box
from isojax.data.pictures import Picture, UndecodableImageError


def smooth_image(height, width):
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(rows / 9 + c) * np.cos(columns / (7 + c)) for c in range(3)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def encoded(pixels, format="JPEG", mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format, **options)
    return file.getvalue()


IMAGE = smooth_image(75, 100)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}])
def test_a_jpeg_file_has_the_pixels_that_pillow_decodes(options):
    content = encoded(IMAGE, **options)
    image = EncodedImage(content)
    assert (image.height, image.width) == (75, 100)
    np.testing.assert_array_equal(image.pixels(), Picture(content).pixels())


def test_other_formats_are_decoded_too():
    np.testing.assert_array_equal(EncodedImage(encoded(IMAGE, "PNG")).pixels(), IMAGE)
    cmyk = EncodedImage(encoded(IMAGE, mode="CMYK", quality=95))
    np.testing.assert_allclose(cmyk.pixels(), IMAGE, atol=12)


@pytest.mark.parametrize(("orientation", "shape"), [(1, (75, 100)), (6, (100, 75))])
def test_a_jpeg_file_is_turned_upright(orientation, shape):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = EncodedImage(encoded(IMAGE, exif=exif))
    assert (image.height, image.width) == shape == image.pixels().shape[:2]


@pytest.mark.parametrize(
    ("fraction", "rows"),
    [(1.0, 75), (0.51, 75), (0.5, 38), (0.3, 38), (0.25, 19), (0.01, 10)],
)
def test_a_jpeg_file_is_decoded_at_a_smaller_size_that_suffices(fraction, rows):
    assert len(EncodedImage(encoded(IMAGE)).pixels(fraction)) == rows


def test_a_truncated_jpeg_file_is_refused():
    content = encoded(IMAGE)
    with pytest.raises(UndecodableImageError):
        EncodedImage(content[: len(content) // 2]).pixels()


def test_bytes_after_the_image_are_harmless():
    content = encoded(IMAGE)
    np.testing.assert_array_equal(
        EncodedImage(content + b"more").pixels(), EncodedImage(content).pixels()
    )


def test_content_that_is_no_image_is_refused():
    for content in (b"", b"text", encoded(IMAGE)[:100]):
        with pytest.raises(UndecodableImageError):
            EncodedImage(content).pixels()


def test_a_jpeg_file_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 7499)
    with pytest.raises(UndecodableImageError, match="100x75"):
        EncodedImage(encoded(IMAGE))


@pytest.mark.parametrize(
    "box", [(0, 0, 75, 100), (20, 35, 50, 40), (10, 60, 12, 9), (74, 99, 1, 1)]
)
def test_a_resized_box_is_that_of_the_views_on_the_device(box):
    on_device = augment.resized_crop(
        jnp.asarray(IMAGE / np.float32(255)), *box, size=24
    )
    resized = resize_box(IMAGE, *box, side=24)
    np.testing.assert_allclose(resized, 255 * on_device, atol=1.6)
