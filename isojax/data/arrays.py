"""Data sets from arrays in memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from isojax.data.dataset import Dataset, Split, labelled
from isojax.data.overlap import is_overlapping
from isojax.errors import UsageError

_CHANNELS = (1, 3)


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    test_images: ArrayLike | None = None,
    test_labels: ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
) -> Dataset:
    """Makes a data set of images in memory.

    Args:
      images: images for pretraining, and for the readout where they have labels. Shape
        (n, side, side, channels) with 1 or 3 channels. uint8, or floating point in
        [0, 1], which is stored as uint8, rounded to the nearest of 256 levels.
      labels: integers (n,) from 0; -1 for an image without a label. None if no image
        has a label.
      test_images: images for accuracies, in the form of `images`, with the same shape
        of an image.
      test_labels: labels of the test images; None if no image has a label.
      label_names: name of each class; by default the numbers "0", "1", ...

    Returns:
      The data set. uint8 arrays are not copied.

    Raises:
      UsageError: if shapes, types or values do not fit together, a class has no images
        or no test images, there is only one class, or test images are also training
        images.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> images = rng.integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
      >>> dataset = from_arrays(images, np.arange(8) % 2)
      >>> dataset.pretrain.images.shape, dataset.num_classes
      ((8, 28, 28, 1), 2)
    """
    pretrain_images = _checked_images("images", images)
    count = len(pretrain_images)
    if test_images is None:
        if test_labels is not None:
            raise UsageError("test_labels is given without test_images; pass both")
        evaluation_images = pretrain_images[:0]
    else:
        evaluation_images = _checked_images("test_images", test_images)
        _check_test_images(pretrain_images, evaluation_images)
    if labels is None:
        _refuse_without_labels(test_labels=test_labels, label_names=label_names)
        train_labels = np.full(count, -1, np.int32)
        names: tuple[str, ...] = ()
    else:
        train_labels = _checked_labels("labels", labels, count)
        names = _class_names(train_labels, label_names)
    if test_images is None or labels is None:
        evaluation_labels = np.full(len(evaluation_images), -1, np.int32)
    else:
        if test_labels is None:
            raise UsageError("test_images are given without test_labels; pass both")
        evaluation_labels = _checked_labels(
            "test_labels", test_labels, len(evaluation_images)
        )
        _check_test_labels(evaluation_labels, names)
    pretrain = Split(pretrain_images, train_labels)
    return Dataset(
        pretrain,
        train=labelled(pretrain),
        evaluation=Split(evaluation_images, evaluation_labels),
        evaluation_name="test",
        num_classes=len(names),
        label_names=names,
    )


def _checked_images(name: str, images: ArrayLike) -> np.ndarray:
    """Returns images as uint8, after checking shape, type and range."""
    try:
        array = np.asarray(images)
    except ValueError as error:  # a list of images of different sizes
        raise UsageError(_different_sizes(name)) from error
    if array.dtype == object:
        raise UsageError(_different_sizes(name))
    _check_shape(name, array.shape)
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(
            f"{name} have type {array.dtype}; convert them to uint8 (0 to 255), for "
            f"example with {name}.astype(np.uint8), or to float32 in [0, 1]"
        )
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        broken = int(np.sum(~np.isfinite(array).all(axis=(1, 2, 3))))
        raise UsageError(
            f"{broken:,} of {len(array):,} {name} contain NaN or infinite values; "
            "remove or repair them"
        )
    if low < 0 or high > 1:
        remedy = "scale them to [0, 1] and do not normalise them"
        if low >= 0 and high <= 255:
            remedy = f"divide them by 255, or pass {name}.astype(np.uint8)"
        raise UsageError(
            f"{name} are {array.dtype} in [{low:g}, {high:g}] instead of [0, 1]; "
            f"{remedy}"
        )
    return np.rint(255 * array).astype(np.uint8)


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    wanted = f"{name} have shape {shape} instead of (n, side, side, channels)"
    if len(shape) == 3:
        raise UsageError(f"{wanted}; pass {name}[..., None] if they are grey")
    if len(shape) != 4:
        raise UsageError(f"{wanted}; reshape them")
    if shape[0] == 0:
        raise UsageError(f"{name} are empty; pass at least one image")
    if shape[-1] not in _CHANNELS:
        remedy = "select or average channels, so that 1 or 3 remain"
        if shape[1] in _CHANNELS:
            remedy = f"pass {name}.transpose(0, 2, 3, 1)"
        raise UsageError(f"{wanted} with 1 or 3 channels; {remedy}")
    if shape[1] != shape[2] or shape[1] == 0:
        raise UsageError(f"{wanted}; crop or resize them to squares")
    if shape[1] == 1:
        raise UsageError(f"{wanted} with a side of at least 2; pass larger images")


def _different_sizes(name: str) -> str:
    return (
        f"{name} have different sizes or numbers of channels; convert them to one "
        "shape, or write them as files and use isojax.data.from_folder"
    )


def _check_test_images(images: np.ndarray, test_images: np.ndarray) -> None:
    if images.shape[1:] != test_images.shape[1:]:
        raise UsageError(
            f"images have shape {images.shape[1:]} and test_images "
            f"{test_images.shape[1:]}; give both the same size and channels"
        )
    if is_overlapping(images, test_images):
        raise UsageError(
            "images and test_images share images, so that accuracies would be measured "
            "on training images; remove them from one of the two"
        )


def _checked_labels(name: str, labels: ArrayLike, count: int) -> np.ndarray:
    """Returns labels as int32, after checking shape, type and sign."""
    array = np.asarray(labels)
    if array.shape != (count,):
        images = name.replace("labels", "images")
        raise UsageError(
            f"{name} have shape {array.shape}, and there are {count:,} {images}; pass "
            f"one integer per image, shape ({count},)"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise UsageError(
            f"{name} have type {array.dtype}; pass integers, for example "
            f"np.unique({name}, return_inverse=True)[1]"
        )
    if array.max() >= 2**31:
        raise UsageError(f"{name} contain {array.max()}; number the classes from 0")
    if array.min() < -1:
        raise UsageError(
            f"{name} contain {array.min()}; classes are numbered from 0, and -1 marks "
            "an image without a label"
        )
    return array.astype(np.int32)


def _class_names(
    labels: np.ndarray, label_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the name of each class, after checking that each has images."""
    present = np.unique(labels[labels >= 0])
    if len(present) < 2:
        raise UsageError(
            f"labels contain {len(present)} class(es); pass at least two, or no labels "
            "to pretrain without them"
        )
    count = int(present[-1]) + 1
    names = tuple(map(str, range(count) if label_names is None else label_names))
    if count > len(names):
        raise UsageError(
            f"labels contain {count - 1}, and {len(names)} label_names are given; pass "
            f"labels from 0 to {len(names) - 1}, or more names"
        )
    if len(set(names)) < len(names):
        raise UsageError(
            f"label_names {names} repeat a name; give each class a name of its own"
        )
    count = len(names)
    if len(present) < count:
        in_place = present == np.arange(len(present))
        missing = len(present) if in_place.all() else int(np.argmin(in_place))
        raise UsageError(
            f"class {missing} of 0 to {count - 1} has no images; number the classes "
            "without gaps, for example with np.unique(labels, return_inverse=True)[1]"
        )
    return names


def _check_test_labels(labels: np.ndarray, names: tuple[str, ...]) -> None:
    if labels.min() < 0:
        raise UsageError(
            f"test_labels contain {labels.min()}; every test image needs a label from "
            f"0 to {len(names) - 1}"
        )
    if labels.max() >= len(names):
        raise UsageError(
            f"test_labels contain {labels.max()}, and the classes of labels are 0 to "
            f"{len(names) - 1}; use the same numbers for both"
        )
    if missing := [n for n, name in enumerate(names) if n not in set(labels.tolist())]:
        raise UsageError(
            f"class {names[missing[0]]} has no test images; add some, or remove the "
            "class from both parts"
        )


def _refuse_without_labels(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} is given without labels; pass labels, too")
