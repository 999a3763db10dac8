import numpy as np
import pytest

from isojax.data import digits
from isojax.errors import UsageError


def test_the_split_is_stratified_and_has_no_image_in_both_parts():
    arrays = digits.load_digits()
    assert arrays["train_images"].shape == (4000, 28, 28, 1)
    assert arrays["test_images"].shape == (1000, 28, 28, 1)
    assert arrays["train_images"].dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(arrays["train_labels"]), [400] * 10)
    np.testing.assert_array_equal(np.bincount(arrays["test_labels"]), [100] * 10)
    train = {image.tobytes() for image in arrays["train_images"]}
    assert not any(image.tobytes() in train for image in arrays["test_images"])


def test_an_archive_with_another_checksum_is_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(UsageError, match="damaged .* reinstall isojax"):
        digits.load_digits()
