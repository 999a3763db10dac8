import numpy as np
import pytest

from isojax.data import channel_statistics, statistics
from isojax.data.digits import load_digits


def draw(n, side=5, channels=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
    return (images * np.linspace(0.2, 1.0, channels)).astype(np.uint8)


@pytest.mark.parametrize("chunk_bytes", [1, 200, 8e6])
def test_mean_and_deviation_are_numpys(chunk_bytes, monkeypatch):
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", chunk_bytes)
    images = draw(100)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)) / 255, atol=6e-5)
    np.testing.assert_allclose(std, images.std((0, 1, 2)) / 255, atol=6e-5)


def test_the_digits_statistics():
    assert channel_statistics(load_digits()["train_images"]) == ((0.1311,), (0.3083,))


def test_extreme_images_do_not_overflow():
    white = np.full((3000, 40, 40, 1), 255, np.uint8)
    assert channel_statistics(white) == ((1.0,), (0.0,))


def test_a_large_set_is_sampled_evenly(monkeypatch):
    images = draw(100)
    expected = channel_statistics(images[::3])
    monkeypatch.setattr(statistics, "_MOST_BYTES", images.nbytes / 3)
    assert channel_statistics(images) == expected
