"""The images of a run, and the part of them that is held out."""

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from isojax.data.cache import mapped_file
from isojax.data.verified import remembered, state_of
from isojax.errors import UsageError

if TYPE_CHECKING:
    from isojax.data.streamed_images import StreamedImages

# Images in memory or mapped from a file, or decoded when they are read.
ImageArray: TypeAlias = "np.ndarray | StreamedImages"

# Part of each class that a readout holds out of its training images to choose its own
# settings: the penalty of the linear classifier, the learning rate of fine-tuning.
HELD_OUT_FRACTION = 0.2
VALIDATION = "validation"  # name of held-out images that replace the evaluation images
_CHUNK = 1000  # images


class Split(NamedTuple):
    """Images and labels.

    Attributes:
      images: uint8, shape (n, h, w, c).
      labels: int32, shape (n,), -1 for images without a label.
    """

    images: ImageArray
    labels: np.ndarray


class Dataset(NamedTuple):
    """The images of a run.

    Attributes:
      pretrain: images for pretraining; labels may be missing (-1).
      train: labelled images for the readout; none if no image has a label.
      evaluation: images for accuracies, all of them with labels or none; may be empty.
      evaluation_name: name of the evaluation split, or "validation" for a held-out part
        of `train`.
      num_classes: number of classes; labels are integers from 0 to num_classes - 1.
        0 if no image has a label.
      label_names: name of each class.
      folder: the folder that the images were read from, if any.
    """

    pretrain: Split
    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int
    label_names: tuple[str, ...]
    folder: str | None = None


def check_dataset(dataset: object) -> None:
    """Checks that an argument `dataset` is a data set, not an array or a path.

    Raises:
      UsageError: if it is not.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError(
            f"dataset is of type {type(dataset).__name__}; pass the result of "
            "isojax.data.from_arrays(images, labels) or isojax.data.from_folder(path, "
            "resolution=...)"
        )


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


def select(split: Split, mask: np.ndarray | slice) -> Split:
    """Returns the images of a split that a boolean mask (n,) or a slice selects."""
    return Split(split.images[mask], split.labels[mask])


def labelled(split: Split) -> Split:
    """Returns the images of a split that have labels, without a copy if all have."""
    mask = split.labels >= 0
    return split if mask.all() else select(split, mask)


def with_validation(dataset: Dataset, fraction: float) -> Dataset:
    """Replaces the evaluation images by a held-out part of the labelled images.

    Args:
      dataset: the images; returned unchanged if a part has already been held out.
      fraction: fraction of each class to hold out of `pretrain` and `train`; 0 for
        none.

    Returns:
      The data set without the held-out images in `pretrain` and `train`.

    Raises:
      UsageError: if no image has a label, the labelled images of `pretrain` are not
        those of `train`, or a part is left without images.
    """
    if not fraction or dataset.evaluation_name == VALIDATION:
        return dataset
    field = f"config.data.validation_fraction={fraction}"
    if not len(dataset.train.labels):
        raise UsageError(
            f"{field} needs labels, which the images do not have; set it to 0"
        )
    held = held_out_mask(dataset.train.labels, fraction)
    train, validation = select(dataset.train, ~held), select(dataset.train, held)
    pretrain = train
    if dataset.pretrain is not dataset.train:
        pretrain = _without(dataset.pretrain, held, validation.images, field)
    parts = {"pretrain": pretrain, "train": train, "evaluation": validation}
    for name, part in parts.items():
        if not len(part.labels):
            raise UsageError(f"no images are left for {name}; change {field}")
    return dataset._replace(
        pretrain=pretrain,
        train=train,
        evaluation=validation,
        evaluation_name=VALIDATION,
    )


def _without(
    pretrain: Split, held: np.ndarray, images: ImageArray, field: str
) -> Split:
    """Removes held-out images; `held` refers to the labelled images of `pretrain`."""
    positions = np.flatnonzero(pretrain.labels >= 0)
    if not len(positions):
        return pretrain
    is_same = len(positions) == len(held) and _are_equal(
        pretrain.images[positions[held]], images
    )
    if not is_same:
        raise UsageError(
            f"{field} needs the labelled images of config.data.pretrain_split to be "
            "those of config.data.train_split; set it to 0 or change a split"
        )
    keep = np.ones(len(pretrain.labels), dtype=bool)
    keep[positions[held]] = False
    return select(pretrain, keep)


def _are_equal(images: ImageArray, others: ImageArray) -> bool:
    if isinstance(images, np.ndarray) or isinstance(others, np.ndarray):
        return np.array_equal(np.asarray(images), np.asarray(others))
    return images.names() == others.names()


def images_checksum(images: ImageArray) -> str:
    """Returns a checksum of shape and content of images, 8 hexadecimal digits.

    Of images that are decoded when they are read, the names replace the content. A
    machine computes the checksum of a file in the cache once.
    """
    start = zlib.crc32(repr(images.shape).encode())
    if not isinstance(images, np.ndarray):
        return f"{zlib.crc32(repr(images.names()).encode(), start):08x}"
    pixels = images

    def compute() -> str:
        crc = start
        for first in range(0, len(pixels), _CHUNK):
            chunk = np.ascontiguousarray(pixels[first : first + _CHUNK])
            crc = zlib.crc32(chunk.data, crc)
        return f"{crc:08x}"

    if (path := mapped_file(pixels)) is not None:
        with suppress(OSError):  # deleted while it is mapped
            return remembered(path, state_of([path], images.shape), compute)
    return compute()


def labels_checksum(labels: np.ndarray) -> str:
    """Returns a checksum of labels, 8 hexadecimal digits."""
    return f"{zlib.crc32(labels.astype('<i4').tobytes()):08x}"
