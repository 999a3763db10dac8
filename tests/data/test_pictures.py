"""Image files that Pillow decodes."""

import io

import numpy as np
import pytest
from PIL import Image

from isojax.data import pictures
from isojax.data.pictures import Picture, UndecodableImageError

RAMP = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RAMP), exif=exif)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WebP"])
def test_lossless_formats_keep_every_pixel(format):
    options = {"lossless": True} if format == "WebP" else {}
    picture = Picture(encoded(Image.fromarray(RAMP), format, **options))
    assert (picture.height, picture.width, picture.orientation) == (6, 4, 1)
    np.testing.assert_array_equal(picture.pixels(), RAMP)


def test_grey_images_have_three_equal_channels():
    grey = RAMP[..., 0]
    pixels = Picture(encoded(Image.fromarray(grey))).pixels()
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=-1))


def test_16_bit_images_keep_the_upper_bits():
    deep = np.array([[0, 255], [256, 65535]], np.uint16)
    pixels = Picture(encoded(Image.fromarray(deep))).pixels()
    np.testing.assert_array_equal(pixels[..., 1], [[0, 0], [1, 255]])


def test_transparency_is_ignored():
    clear = np.dstack([RAMP, np.zeros((6, 4), np.uint8)])
    np.testing.assert_array_equal(
        Picture(encoded(Image.fromarray(clear))).pixels(), RAMP
    )


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
    pixels = Picture(encoded(ink, "JPEG", quality=100)).pixels()
    np.testing.assert_allclose(pixels[0, 0], [0, 255, 255], atol=3)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, RAMP),
        (2, RAMP[:, ::-1]),
        (3, RAMP[::-1, ::-1]),
        (6, np.rot90(RAMP, -1)),
        (8, np.rot90(RAMP)),
    ],
)
def test_images_are_turned_upright(orientation, upright):
    picture = Picture(oriented(orientation))
    assert (picture.height, picture.width) == upright.shape[:2]
    np.testing.assert_array_equal(picture.pixels(), upright)


@pytest.mark.parametrize("content", [b"", b"some text", b"\xff\xd8\xff\xe0"])
def test_other_content_is_refused(content):
    with pytest.raises(UndecodableImageError):
        Picture(content)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP"])
def test_a_truncated_image_is_refused(format):
    content = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), format)
    with pytest.raises(UndecodableImageError):
        Picture(content[: len(content) // 2]).pixels()


def test_an_image_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 23)
    with pytest.raises(UndecodableImageError, match="4x6"):
        Picture(encoded(Image.fromarray(RAMP)))
