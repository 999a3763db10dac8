"""Image sets by name, as uint8 arrays in host memory."""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from ml_collections import ConfigDict

from isojax.data import cache
from isojax.data.cache import Images
from isojax.data.digits import load_digits
from isojax.data.overlap import is_overlapping, may_share_images
from isojax.errors import UsageError
from isojax.output import say

# Needed to prepare a set of tensorflow-datasets, and not to read it afterwards.
_PREPARING_PACKAGES = ("tensorflow", "tensorflow_datasets", "importlib_resources")


# Part of each class that a readout holds out of its training images to choose its own
# settings: the penalty of the linear classifier, the learning rate of fine-tuning.
HELD_OUT_FRACTION = 0.2


class Split(NamedTuple):
    """Images (n, h, w, c) uint8 and their labels (n,) int32, -1 where there is none."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """What a run needs of an image set.

    Attributes:
      pretrain: for training without labels; labels may be missing (-1).
      train: labelled, for the readout.
      evaluation: labelled, for accuracies.
      evaluation_name: the split's name, or "validation" for a held-out part of `train`.
      num_classes: labels are below it.
      label_names: name of each class.
    """

    pretrain: Split
    train: Split
    evaluation: Split
    evaluation_name: str
    num_classes: int
    label_names: tuple[str, ...]


def load_dataset(
    data: ConfigDict, *, data_dir: str | os.PathLike | None = None
) -> Dataset:
    """Loads an image set; the first time it is downloaded and decoded.

    Args:
      data: section `data` of a config, as `configs/base.py` describes it.
      data_dir: folder of the data sets, used unless they are the digits; by default
        the environment's TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Returns:
      The data set. Its images are mapped from files, except the digits, and where a
      part is held out.

    Raises:
      UsageError: if a name or split does not exist or has no labels, the images cannot
        be had, the splits `train` and `evaluation` overlap, or holding out leaves a
        part without any.
    """
    train = _read_labelled(data, "train_split", data_dir)
    pretrain = train
    if data.pretrain_split != data.train_split:
        pretrain = _read(data, data.pretrain_split, data_dir)
    pretraining, training = _split(pretrain), _split(train)
    if data.validation_fraction > 0:
        evaluation_name = "validation"
        pretraining, training, evaluation = _hold_out_of_both(
            pretraining, training, data
        )
        parts = {"pretrain": pretraining, "train": training, "evaluation": evaluation}
        for name, part in parts.items():
            if not len(part.labels):
                raise UsageError(
                    f"no images are left for {name}; change config.data."
                    f"validation_fraction={data.validation_fraction}"
                )
    else:
        evaluation_name = data.evaluation_split
        evaluation = _split(_read_labelled(data, "evaluation_split", data_dir))
        _check_disjoint(training, evaluation, data)
    return Dataset(
        pretraining,
        training,
        evaluation,
        evaluation_name,
        num_classes=len(train.label_names),
        label_names=train.label_names,
    )


def _check_disjoint(train: Split, evaluation: Split, data: ConfigDict) -> None:
    if may_share_images(data.train_split, data.evaluation_split) and is_overlapping(
        train.images, evaluation.images
    ):
        raise UsageError(
            f"config.data.train_split={data.train_split} and "
            f"config.data.evaluation_split={data.evaluation_split} share images, so "
            "accuracies would be measured on images that classifiers are trained on; "
            "choose splits that do not overlap"
        )


def check_validation_fraction(fraction: float) -> None:
    """Refuses a `data.validation_fraction` that is no part of the images.

    Raises:
      UsageError: if it is below 0, or 1 or more.
    """
    if not 0 <= fraction < 1:
        raise UsageError(
            f"config.data.validation_fraction={fraction}: set it to at least 0, below 1"
        )


def hold_out(split: Split, fraction: float, *, seed: int = 0) -> tuple[Split, Split]:
    """Splits off the same part of every class, at random but always the same.

    Args:
      split: n images; those without a label are kept.
      fraction: part of each class to hold out, between 0 and 1.
      seed: of the choice.

    Returns:
      What is kept and what is held out, each in the order of `split`.
    """
    held = _held_out(split.labels, fraction, seed)
    return _select(split, ~held), _select(split, held)


def _held_out(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[labels >= 0]):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(fraction * len(members))]] = True
    return held


def _hold_out_of_both(
    pretrain: Split, train: Split, data: ConfigDict
) -> tuple[Split, Split, Split]:
    """What is kept of both, and what is held out of `train` and so of `pretrain`."""
    held = _held_out(train.labels, data.validation_fraction)
    kept, validation = _select(train, ~held), _select(train, held)
    if data.pretrain_split == data.train_split:
        return kept, kept, validation
    labelled = np.flatnonzero(pretrain.labels >= 0)
    if not len(labelled):
        return pretrain, kept, validation
    same = len(labelled) == len(train.labels) and np.array_equal(
        pretrain.images[labelled[held]], validation.images
    )
    if not same:
        raise UsageError(
            f"config.data.validation_fraction={data.validation_fraction} needs the "
            f"labelled images of pretrain_split={data.pretrain_split} to be those of "
            f"train_split={data.train_split}; set it to 0 or change a split"
        )
    keep = np.ones(len(pretrain.labels), dtype=bool)
    keep[labelled[held]] = False
    return _select(pretrain, keep), kept, validation


def _select(split: Split, mask: np.ndarray) -> Split:
    return Split(split.images[mask], split.labels[mask])


def _split(images: Images) -> Split:
    return Split(images.images, images.labels)


def _read_labelled(
    data: ConfigDict, field: str, data_dir: str | os.PathLike | None
) -> Images:
    found = _read(data, data[field], data_dir)
    unlabelled = int((found.labels < 0).sum())
    if unlabelled:
        raise UsageError(
            f"config.data.{field}={data[field]}: {unlabelled:,} of its images have no "
            f"label; choose a split without them; there are {', '.join(found.splits)}"
        )
    return found


def _read(data: ConfigDict, split: str, data_dir: str | os.PathLike | None) -> Images:
    if data.resolution < 1:
        raise UsageError(f"config.data.resolution={data.resolution}: set it above 0")
    if is_path(data.name):
        raise UsageError(path_refusal(data.name))
    if data.name == "digits":
        return _read_digits(split, data.resolution)
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = Path(data_dir).expanduser().absolute()
    folder = data_dir / "isojax" / quote(f"{data.name}-{data.resolution}", safe="")
    folder /= quote(split, safe="+")
    return _read_cached(data, split, folder, data_dir)


def is_path(name: str) -> bool:
    """Whether a data set's name can only be meant as a path."""
    # A name of tensorflow-datasets may have a slash inside, before its configuration.
    return name.startswith(("/", "./", "../", "~")) or "://" in name


def path_refusal(name: str) -> str:
    """Says that a data set's name is a path, and what is read instead."""
    return (
        f"config.data.name={name} is a path, and image folders are not read; use "
        "digits, tiny_imagenet, a name of tensorflow-datasets, or a builder of your "
        "own (docs/extending.md)"
    )


def _read_digits(split: str, resolution: int) -> Images:
    splits = ("train", "test")
    if split not in splits:
        raise UsageError(f"digits has no split {split!r}; it has {', '.join(splits)}")
    arrays = load_digits()
    images = arrays[f"{split}_images"]
    if resolution != images.shape[1]:
        raise UsageError(
            f"config.data.resolution={resolution}: the digits have 28 pixels a side; "
            "set it to 28"
        )
    labels = arrays[f"{split}_labels"].astype(np.int32)
    return Images(images, labels, tuple("0123456789"), splits)


def _read_cached(data: ConfigDict, split: str, folder: Path, data_dir: Path) -> Images:
    try:
        found = cache.read_images(folder)
    except cache.DamagedCacheError as error:
        say(f"The images in {folder} are damaged ({error}); decoding them again ...")
        found = None
    if found is not None:
        return found
    try:
        from isojax.data import prepared  # imports TensorFlow, which takes seconds
    except ModuleNotFoundError as error:
        if error.name not in _PREPARING_PACKAGES:
            raise
        raise UsageError(
            f"preparing config.data.name={data.name} for the first time needs the "
            f"package {error.name}, which is not installed: pip install 'isojax[data]'"
        ) from error

    prepared.fill_cache(
        folder, data.name, split, resolution=data.resolution, data_dir=data_dir
    )
    return cache.read_images(folder)
