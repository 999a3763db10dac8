"""Raw pixels as features, the baseline of an evaluation."""

import numpy as np
import pytest

from isojax.data import Dataset, Split
from isojax.evaluation import measure
from isojax.evaluation.measure import _raw_pixels


def test_small_images_keep_every_pixel():
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(_raw_pixels({}, images), images.reshape(2, -1))


@pytest.mark.parametrize("side", [128, 224])
def test_large_images_are_reduced(side):
    bright_half = np.zeros((1, side, side, 3), np.uint8)
    bright_half[:, :, side // 2 :] = 200
    reduced = np.asarray(_raw_pixels({}, bright_half)).reshape(32, 32, 3)
    np.testing.assert_allclose(reduced[:, :14], 0, atol=1e-3)
    np.testing.assert_allclose(reduced[:, 18:], 200, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "side", "wanted", "measured"),
    [
        (50_000, 32, None, True),  # CIFAR
        (5_000, 96, None, True),  # STL-10
        (100_000, 64, None, False),  # TinyImageNet
        (1_281_167, 224, None, False),  # ImageNet, of which 32×32 pixels are used
        (100_000, 64, True, True),
        (50_000, 32, False, False),
    ],
)
def test_raw_pixels_of_large_sets_are_measured_on_request(
    capsys, images, side, wanted, measured
):
    pixels = np.broadcast_to(np.uint8(0), (images, side, side, 3))
    train = Split(pixels, np.zeros(images, np.int32))
    dataset = Dataset(train, train, train, "test", 1, ("a",))
    found = measure._baselines(dataset, wanted)
    assert [*found] == ["random_init_", *["raw_pixel_"] * measured]
    said = capsys.readouterr().out
    assert ("--raw_pixels" in said) == (not measured and wanted is None)
    assert (f"{images:,}" in said) == bool(said)
