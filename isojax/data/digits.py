"""The 5,000 handwritten digits that are part of the package."""

import hashlib
import importlib.resources
import io

import numpy as np

from isojax.errors import UsageError

SHA256 = "9ccf3e382791da82fa1f6686af2126776d5fbfef00cb9bca28e505b78a558b3d"


def load_digits() -> dict[str, np.ndarray]:
    """Loads the packaged MNIST subset, with its fixed stratified split.

    Returns:
      `train_images` (4000, 28, 28, 1) and `test_images` (1000, 28, 28, 1), uint8 grey
      levels; `train_labels` (4000,) and `test_labels` (1000,), uint8 in 0..9.

    Raises:
      UsageError: if the archive's checksum differs from the released one.

    Source: LeCun et al. 1998; origin and licence in `DIGITS.md` beside this file.
    """
    archive = importlib.resources.files("isojax.data").joinpath("digits.npz")
    content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UsageError(f"{archive} is damaged (wrong checksum); reinstall isojax")
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)
