"""Decodes splits of tensorflow-datasets. Imported only to fill the cache."""

import difflib
import math
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from isojax.output import is_terminal, print_line, quiet_tensorflow

quiet_tensorflow()  # before the first import of TensorFlow

import tensorflow_datasets as tfds  # noqa: E402

from isojax.data import tiny_imagenet  # noqa: E402, F401  registers the builder
from isojax.data.cache import (  # noqa: E402
    DamagedCacheError,
    read_images,
    remove_images,
    write_images,
)
from isojax.data.disk import (  # noqa: E402
    make_folder,
    naming_full_disk,
    preparation_lock,
    require_space,
    require_writable,
)
from isojax.data.downloads import prepare  # noqa: E402
from isojax.data.records import decoded_batches  # noqa: E402
from isojax.data.sources import path_refusal  # noqa: E402
from isojax.errors import UsageError  # noqa: E402


def fill_cache(
    folder: Path, name: str, split: str, *, resolution: int, data_dir: Path
) -> None:
    """Decodes a split into the cache, preparing the data set first if necessary.

    Args:
      folder: the split's folder in the cache.
      name: name of the data set in tensorflow-datasets.
      split: split in the notation of tensorflow-datasets.
      resolution: side of the square images, in pixels.
      data_dir: folder of tensorflow-datasets.

    Raises:
      UsageError: if data set or split do not exist, have no labelled images, or cannot
        be downloaded or written, or the records are damaged.
    """
    builder = _find(name, data_dir)
    features = _image_and_label(builder)
    make_folder(folder.parent, root=data_dir)
    lock = data_dir / "isojax" / f".{builder.name}.lock"
    require_writable(lock.parent)
    with preparation_lock(lock):
        with suppress(DamagedCacheError):
            if read_images(folder) is not None:  # the previous holder wrote it
                return
        remove_images(folder)
        require_writable(folder.parent)
        if not is_terminal(sys.stderr):
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
            f"{builder.name} has no split {split!r}; it has {', '.join(splits)}; join "
            "splits with +"
        ) from error
    if count < 1:
        raise UsageError(
            f"the split {split!r} of {builder.name} contains no images; choose "
            f"another part of {', '.join(splits)}"
        )
    image, label = (builder.info.features[key] for key in features)
    shape = (resolution, resolution, image.shape[-1])
    purpose = f"decoding {split} of {builder.name}"
    require_space(folder.parents[1], count * (math.prod(shape) + 4), purpose=purpose)
    print_line(f"{purpose[0].upper()}{purpose[1:]}, {count:,} images, only once ...")
    batches = decoded_batches(builder, split, features, side=resolution, count=count)
    with naming_full_disk(folder.parents[1], purpose=purpose):
        write_images(
            folder, batches, image_shape=shape, label_names=label.names, splits=splits
        )


def _find(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
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


def _image_and_label(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """Returns the names of the features with the image and its class."""
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
