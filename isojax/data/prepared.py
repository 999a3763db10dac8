"""Decodes splits of tensorflow-datasets. Imported only to fill the cache."""

import math
import sys
from contextlib import suppress
from pathlib import Path

from isojax.output import is_terminal, print_line, quiet_tensorflow

quiet_tensorflow()  # before the first import of TensorFlow

import tensorflow_datasets as tfds  # noqa: E402

from isojax.data.builders import (  # noqa: E402
    count_images,
    find_builder,
    image_and_label,
)
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
    builder = find_builder(name, data_dir)
    features = image_and_label(builder)
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
    count = count_images(builder, split)
    image, label = (builder.info.features[key] for key in features)
    shape = (resolution, resolution, image.shape[-1])
    purpose = f"decoding {split} of {builder.name}"
    require_space(folder.parents[1], count * (math.prod(shape) + 4), purpose=purpose)
    print_line(f"{purpose[0].upper()}{purpose[1:]}, {count:,} images, only once ...")
    batches = decoded_batches(builder, split, features, side=resolution, count=count)
    with naming_full_disk(folder.parents[1], purpose=purpose):
        write_images(
            folder,
            batches,
            image_shape=shape,
            label_names=label.names,
            splits=list(builder.info.splits),
        )
