"""Splits of tensorflow-datasets, decoded to arrays. Imported only to fill the cache."""

import difflib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

# TensorFlow reads both when it is imported, and otherwise greets on standard error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

from isojax.data import tiny_imagenet  # noqa: E402, F401  registers the builder
from isojax.data.cache import (  # noqa: E402
    DamagedCacheError,
    only_one_process,
    read_images,
    remove_images,
    write_images,
)
from isojax.data.disk import (  # noqa: E402
    make_folder,
    naming_full_disk,
    require_space,
    require_writable,
)
from isojax.data.downloads import prepare  # noqa: E402
from isojax.errors import UsageError  # noqa: E402
from isojax.output import say  # noqa: E402

_BATCH = 256
# Records that are damaged, fewer than they should be, or gone.
_DAMAGED = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
)


def fill_cache(
    folder: Path, name: str, split: str, *, resolution: int, data_dir: Path
) -> None:
    """Decodes a split of a data set into its cache, preparing the set if need be.

    Args:
      folder: of the split in the cache.
      name: of the data set, as tensorflow-datasets knows it.
      split: of the data set, in the notation of tensorflow-datasets.
      resolution: side of the square images, in pixels.
      data_dir: folder of tensorflow-datasets.

    Raises:
      UsageError: if the set or the split does not exist, has no labelled images, cannot
        be downloaded or written, or its records are damaged.
    """
    builder = _find(name, data_dir)
    features = _image_and_label(builder)
    make_folder(folder.parent, root=data_dir)
    lock = data_dir / "isojax" / f".{builder.name}.lock"
    require_writable(lock.parent)
    with only_one_process(lock):
        with suppress(DamagedCacheError):
            if read_images(folder) is not None:  # written by the run that held the lock
                return
        remove_images(folder)
        require_writable(folder.parent)
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        prepare(builder, data_dir=data_dir)
        _decode(folder, builder, split, features, resolution=resolution)


def _decode(
    folder: Path,
    builder: tfds.core.DatasetBuilder,
    split: str,
    features: tuple[str, str],
    *,
    resolution: int,
) -> None:
    splits = list(builder.info.splits)
    try:
        count = builder.info.splits[split].num_examples
    except (ValueError, KeyError, AssertionError) as error:
        raise UsageError(
            f"{builder.name} has no split {split!r}; it has {', '.join(splits)}, and + "
            "joins them"
        ) from error
    if count < 1:
        raise UsageError(
            f"the split {split!r} of {builder.name} holds no images; choose another "
            f"part of {', '.join(splits)}"
        )
    image, label = (builder.info.features[key] for key in features)
    shape = (count, resolution, resolution, image.shape[-1])
    purpose = f"decoding {split} of {builder.name}"
    require_space(folder.parents[1], math.prod(shape) + 4 * count, purpose=purpose)
    say(f"Now {purpose}, {count:,} images, once ...")
    batches = _decoded_batches(builder, split, features, side=resolution, count=count)
    with naming_full_disk(folder.parents[1], purpose=purpose):
        write_images(
            folder, batches, shape=shape, label_names=label.names, splits=splits
        )


def _find(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    known = tfds.list_builders(with_community_datasets=False)
    base = name.split("/")[0].split(":")[0]
    if base not in known:
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


def _image_and_label(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """Names of the features that hold an image and its class."""
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
            f"{builder.name} has no 8-bit images with one class label each; choose a "
            "set for image classification as config.data.name"
        )
    return image, label


def _decoded_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    features: tuple[str, str],
    *,
    side: int,
    count: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images and labels in an order that is the same on every machine."""
    image, label = features
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
        decoders={  # masks and the like take as long as the image itself
            key: tfds.decode.SkipDecoding()
            for key, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image) and key != image
        },
    )
    dataset = dataset.map(
        lambda example: (
            square(example[image], side),
            tf.cast(example[label], tf.int32),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    bar = tqdm(
        total=count,
        desc=f"decoding {builder.name}",
        unit=" images",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    try:
        with bar:
            for images, labels in tfds.as_numpy(dataset.batch(_BATCH).prefetch(2)):
                yield images, labels
                bar.update(len(labels))
    except _DAMAGED as error:
        raise UsageError(
            f"the records of {builder.name} are damaged; delete {builder.data_path} "
            "and run the same command again, which prepares them anew"
        ) from error


def square(image: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes the shorter side, antialiased bicubic, and cuts out the centre.

    Args:
      image: (h, w, c) uint8, of any size.
      side: of the result, in pixels.

    Returns:
      (side, side, c) uint8; an image of that size is returned as it is.
    """
    if image.shape[:2] == (side, side):
        return image
    size = tf.shape(image)[:2]
    scale = side / tf.reduce_min(size)
    size = tf.cast(tf.round(scale * tf.cast(size, tf.float64)), tf.int32)
    image = tf.image.resize(image, size, method="bicubic", antialias=True)
    top, left = tf.unstack((size - side) // 2)
    image = tf.image.crop_to_bounding_box(image, top, left, side, side)
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
