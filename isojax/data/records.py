"""Decodes images and labels from the records of tensorflow-datasets."""

import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from isojax.errors import UsageError
from isojax.progress import image_bar

_BATCH = 256
# Records that are damaged, fewer than expected, or missing.
_DAMAGED_RECORDS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
)
_UNREADABLE_IMAGE = (tf.errors.OpError, ValueError)
_PLACE_IN_GRAPH = re.compile(r"\{\{.*?\}\}|\[Op:.*")  # around TensorFlow's messages


def decoded_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    features: tuple[str, str],
    *,
    side: int,
    count: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images and labels in the same order on every machine.

    Args:
      builder: the data set's builder, whose records exist.
      split: split in the notation of tensorflow-datasets.
      features: names of the features with the image and the label.
      side: side of the images, in pixels.
      count: number of images in the split, for the progress bar.

    Yields:
      Images (b, side, side, c) uint8 and labels (b,) int32.

    Raises:
      UsageError: if the records are damaged or an image cannot be decoded. The
        message names the record.
    """
    image, label = features
    dataset = _read(builder, split, decoded_image=image).map(
        lambda example: (
            square(example[image], side),
            tf.cast(example[label], tf.int32),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    bar = image_bar(f"decoding {builder.name}", total=count)
    done = 0
    try:
        with bar:
            for images, labels in tfds.as_numpy(dataset.batch(_BATCH).prefetch(2)):
                yield images, labels
                bar.update(len(labels))
                done += len(labels)
    except _DAMAGED_RECORDS as error:
        raise UsageError(
            f"the records of {builder.name} are damaged. Delete {builder.data_path} "
            "and run the same command again to prepare them again"
        ) from error
    except tf.errors.InvalidArgumentError as error:
        damaged = _first_unreadable(builder, split, image, side=side, start=done)
        if damaged is None:
            raise
        raise UsageError(
            f"{damaged}. Replace or remove the image, delete {builder.data_path} and "
            "run the same command again"
        ) from error


def square(image: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes the shorter side, antialiased bicubic, and crops the centre.

    Args:
      image: (h, w, c) uint8, of any size.
      side: side of the result, in pixels.

    Returns:
      (side, side, c) uint8. An image of this size is returned unchanged.
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


def _read(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    decoded_image: str | None = None,
) -> tf.data.Dataset:
    """Reads records in a fixed order and decodes no image except `decoded_image`.

    Decoding other image features, such as segmentation masks, would take as long again.
    """
    return builder.as_dataset(
        split=split,
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
        decoders={
            key: tfds.decode.SkipDecoding()
            for key, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image) and key != decoded_image
        },
    )


def _first_unreadable(
    builder: tfds.core.DatasetBuilder, split: str, image: str, *, side: int, start: int
) -> str | None:
    """Describes the first image from `start` that cannot be decoded.

    The texts of the record are included, because one is often the image's file name.
    """
    feature = builder.info.features[image]
    for number, example in enumerate(_read(builder, split).skip(start), start):
        try:
            found = square(feature.decode_example(example[image]), side)
            found.shape.assert_is_compatible_with((side, side, feature.shape[-1]))
        except _UNREADABLE_IMAGE as error:
            texts = "".join(
                f", {key}={example[key].numpy().decode(errors='replace')}"
                for key, text in builder.info.features.items()
                if isinstance(text, tfds.features.Text)
            )
            size = len(example[image].numpy())
            reason = _PLACE_IN_GRAPH.sub("", str(error)).strip().splitlines()[0]
            return (
                f"image {number:,} of {builder.name}'s {split}{texts} has {size:,} "
                f"bytes and cannot be decoded ({reason.rstrip('.')})"
            )
    return None
