"""Raw pixels as features, the baseline of an evaluation."""

import numpy as np
import pytest

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
