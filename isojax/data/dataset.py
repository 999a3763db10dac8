"""The images of a run, and the part of them that is held out."""

from typing import NamedTuple

import numpy as np

from isojax.errors import UsageError

# Part of each class that a readout holds out of its training images to choose its own
# settings: the penalty of the linear classifier, the learning rate of fine-tuning.
HELD_OUT_FRACTION = 0.2


class Split(NamedTuple):
    """Images (n, h, w, c) uint8 and labels (n,) int32, -1 for unlabelled images."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """The images of a run.

    Attributes:
      pretrain: images for pretraining; labels may be missing (-1).
      train: labelled images for the readout.
      evaluation: labelled images for accuracies.
      evaluation_name: name of the evaluation split, or "validation" for a held-out part
        of `train`.
      num_classes: number of classes; labels are integers from 0 to num_classes - 1.
      label_names: name of each class.
    """

    pretrain: Split
    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int
    label_names: tuple[str, ...]


def check_validation_fraction(fraction: float) -> None:
    """Checks that a `data.validation_fraction` is a fraction.

    Raises:
      UsageError: if it is below 0, or 1 or more.
    """
    if not 0 <= fraction < 1:
        raise UsageError(
            f"config.data.validation_fraction={fraction}: set it to at least 0, below 1"
        )


def hold_out(split: Split, fraction: float, *, seed: int = 0) -> tuple[Split, Split]:
    """Splits off the same fraction of every class, at random and reproducibly.

    Args:
      split: n images; those without a label are kept.
      fraction: fraction of each class to hold out, between 0 and 1.
      seed: seed of the random choice.

    Returns:
      The kept and the held-out part, each in the order of `split`.
    """
    held = held_out_mask(split.labels, fraction, seed)
    return select(split, ~held), select(split, held)


def held_out_mask(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Returns which images `hold_out` holds out, a boolean mask of shape (n,)."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[labels >= 0]):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(fraction * len(members))]] = True
    return held


def select(split: Split, mask: np.ndarray) -> Split:
    """Returns the images of a split that a boolean mask, shape (n,), selects."""
    return Split(split.images[mask], split.labels[mask])
