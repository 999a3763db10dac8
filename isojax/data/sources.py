"""Image sets by name, as uint8 arrays in host memory."""

from typing import NamedTuple

import numpy as np

from isojax.data.digits import load_digits
from isojax.errors import UsageError

NAMES = ("digits",)


class Split(NamedTuple):
    """Images (n, h, w, c) uint8 and their labels (n,) int32."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A training split and the split that accuracies are reported on.

    `evaluation_name` says which that is: "test", or "validation" for a held-out part of
    the training images.
    """

    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int


def load_dataset(name: str, *, validation_fraction: float = 0.0) -> Dataset:
    """Loads an image set.

    Args:
      name: one of `NAMES`.
      validation_fraction: where positive, this part of each class of the training
        images is kept from training and stands in the place of the test images, so that
        settings can be chosen without them.

    Returns:
      The data set.

    Raises:
      UsageError: for an unknown name.
    """
    if name not in NAMES:
        raise UsageError(
            f"there is no data set {name!r}; config.data.name is one of "
            f"{', '.join(NAMES)}"
        )
    arrays = load_digits()
    train = Split(arrays["train_images"], arrays["train_labels"].astype(np.int32))
    test = Split(arrays["test_images"], arrays["test_labels"].astype(np.int32))
    if validation_fraction > 0:
        train, validation = hold_out(train, validation_fraction)
        return Dataset(train, validation, "validation", num_classes=10)
    return Dataset(train, test, "test", num_classes=10)


def hold_out(split: Split, fraction: float, *, seed: int = 0) -> tuple[Split, Split]:
    """Splits off the same part of every class, at random but always the same.

    Args:
      split: n labelled images.
      fraction: part of each class to hold out, between 0 and 1.
      seed: of the choice.

    Returns:
      What is kept and what is held out, each in the order of `split`.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(split.labels), dtype=bool)
    for label in np.unique(split.labels):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        held[members[: round(fraction * len(members))]] = True
    return (
        Split(split.images[~held], split.labels[~held]),
        Split(split.images[held], split.labels[held]),
    )
