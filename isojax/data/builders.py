"""Finds data sets of tensorflow-datasets, without TensorFlow."""

import difflib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from isojax.data import tiny_imagenet  # noqa: F401  registers the builder
from isojax.data.sources import path_refusal
from isojax.errors import UsageError


def find_builder(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, prepared or not.

    Args:
      name: name of the data set in tensorflow-datasets.
      data_dir: folder of tensorflow-datasets.

    Raises:
      UsageError: if there is no such data set.
    """
    known = tfds.list_builders(with_community_datasets=False)
    base = name.split("/")[0].split(":")[0]
    if base not in known:
        if Path(name).is_dir():
            raise UsageError(path_refusal(name))
        near = difflib.get_close_matches(base, ["digits", *known], n=3, cutoff=0.0)
        raise UsageError(
            f"there is no data set {name!r}; the nearest names are {', '.join(near)}"
        )
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (ValueError, AssertionError) as error:
        configs = list(tfds.builder_cls(base).builder_configs)[:5]
        remedy = f"write {base}/CONFIG with one of {', '.join(configs)}, ..."
        raise UsageError(
            f"{base} has no version or configuration of config.data.name={name}; "
            + (remedy if configs else f"write {base}")
        ) from error


def image_and_label(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """Returns the names of the features with the image and its class.

    Raises:
      UsageError: if the data set has no such features.
    """
    features = builder.info.features
    image, label = (builder.info.supervised_keys or ("image", "label"))[:2]
    usable = (
        image in features
        and label in features
        and isinstance(features[image], tfds.features.Image)
        and isinstance(features[label], tfds.features.ClassLabel)
        and features[image].np_dtype == np.uint8
    )
    if not usable:
        raise UsageError(
            f"{builder.name} has no 8-bit images with one class label each; set "
            "config.data.name to a data set for image classification"
        )
    return image, label


def count_images(builder: tfds.core.DatasetBuilder, split: str) -> int:
    """Returns the number of images of a split, at least one.

    Args:
      builder: builder of a prepared data set.
      split: split in the notation of tensorflow-datasets.

    Raises:
      UsageError: if the split does not exist or is empty.
    """
    splits = ", ".join(builder.info.splits)
    try:
        count = builder.info.splits[split].num_examples
    except (ValueError, KeyError, AssertionError) as error:
        raise UsageError(
            f"{builder.name} has no split {split!r}; it has {splits}; join splits with "
            "+"
        ) from error
    if count < 1:
        raise UsageError(
            f"the split {split!r} of {builder.name} contains no images; choose another "
            f"part of {splits}"
        )
    return count
