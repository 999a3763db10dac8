"""Prepared sets of tensorflow-datasets whose images are decoded when they are read.

The files of records need random access, which the format `array_record` has. Reading
them needs no TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming
from tensorflow_datasets.core.data_sources import base

from isojax.data.builders import count_images, find_builder, image_and_label
from isojax.data.dataset import Dataset, Split
from isojax.data.folder_listing import ImageFiles, labels_among, read_classes
from isojax.data.record_index import Records, Shard, read_index, read_records
from isojax.data.streamed_split import missing_package, streamed
from isojax.errors import UsageError

FORMAT = "array_record"
# Split names of folders, which sets of tensorflow-datasets may have by another name.
_OTHER_NAMES = {"val": "validation"}


class _Set(NamedTuple):
    """A prepared data set, and the classes that are used.

    Attributes:
      builder: builder of the data set.
      image: name of the feature with the image.
      label: name of the feature with the class.
      data_dir: folder of tensorflow-datasets.
      classes: file with the names of the classes; "" for all.
      chosen: names in that file, in the order of their labels.
    """

    builder: tfds.core.DatasetBuilder
    image: str
    label: str
    data_dir: Path
    classes: str
    chosen: tuple[str, ...]

    @property
    def all_classes(self) -> tuple[str, ...]:
        """Names of all classes of the data set."""
        return tuple(self.builder.info.features[self.label].names)


def load_records(
    name: str,
    *,
    resolution: int,
    pretrain_split: str,
    train_split: str,
    evaluation_split: str | None,
    data_dir: Path,
    classes: str = "",
) -> Dataset:
    """Loads a prepared set of tensorflow-datasets without decoding it.

    Args:
      name: name of the data set in tensorflow-datasets.
      resolution: side of the square images, in pixels.
      pretrain_split: split for pretraining; labels may be missing.
      train_split: labelled split for the readout.
      evaluation_split: labelled split for accuracies; None for none. `val` may stand
        for `validation`.
      data_dir: folder of tensorflow-datasets.
      classes: file with the names of the classes to use, one a line; "" for all.

    Returns:
      The data set. Images are sorted by label, then by the names of their files, as in
      a folder with the same files.

    Raises:
      UsageError: if the data set is not prepared or has no random access, a split is
        missing or has images without a label, the file of the classes is missing or
        names other classes, or a package for streaming is missing.
    """
    chosen = read_classes(classes) if classes else ()
    if len(chosen) == 1:
        raise UsageError(
            f"config.data.classes={classes} names one class, {chosen[0]}; name at "
            "least two"
        )
    builder = _prepared_builder(name, data_dir)
    found = _Set(builder, *image_and_label(builder), data_dir, classes, chosen)
    train = _read_labelled(found, train_split, "train_split", resolution)
    pretrain = train
    if pretrain_split != train_split:
        pretrain = _read(found, pretrain_split, resolution)
    evaluation = Split(train.images[:0], train.labels[:0])
    if evaluation_split is not None:
        evaluation = _read_labelled(
            found, evaluation_split, "evaluation_split", resolution
        )
    label_names = chosen or found.all_classes
    return Dataset(
        pretrain,
        train,
        evaluation,
        evaluation_split or "",
        num_classes=len(label_names),
        label_names=label_names,
    )


def _prepared_builder(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    builder = find_builder(name, data_dir)
    prepare = (
        f"tfds.builder('{builder.name}', data_dir='{data_dir}', "
        f"file_format='{FORMAT}').download_and_prepare()"
    )
    if not builder.data_path.exists():
        raise UsageError(
            f"{builder.name} is not prepared: there is no {builder.data_path}. Put its "
            f"archives into {data_dir}/downloads/manual and prepare it in Python with "
            f"{prepare}, or choose another folder with --data_dir"
        )
    # Unlike the one above, this builder knows the formats that were added later.
    builder = tfds.builder_from_directory(builder.data_path)
    formats = {each.value for each in builder.info.available_file_formats()}
    if FORMAT not in formats:
        raise UsageError(
            f"{builder.data_path} has the format {', '.join(sorted(formats))}, which "
            "cannot be read in random order. Convert it as docs/own_data_and_network."
            f"md describes; delete it and prepare it in Python with {prepare}; or set "
            "config.data.streaming=False"
        )
    return builder


def _read_labelled(found: _Set, split: str, field: str, resolution: int) -> Split:
    images, labels = _read(found, split, resolution)
    if unlabelled := int((labels < 0).sum()):
        raise UsageError(
            f"config.data.{field}={split}: {unlabelled:,} images have no label; choose "
            f"another split of {', '.join(found.builder.info.splits)}"
        )
    return Split(images, labels)


def _read(found: _Set, split: str, resolution: int) -> Split:
    builder = found.builder
    if split in _OTHER_NAMES and split not in builder.info.splits:
        split = _OTHER_NAMES[split]
    count_images(builder, split)
    records = _records(builder, split)
    shards = _shards(builder, split)
    folder = quote(builder.info.full_name, safe="")
    index = read_index(
        records,
        shards,
        found.data_dir / "isojax" / "streamed" / folder / quote(split, safe="+"),
        data_dir=found.data_dir,
        label=found.label,
        label_names=found.all_classes,
    )
    numbers, labels, names = index
    if found.chosen:
        labels = labels_among(
            labels,
            found.all_classes,
            found.chosen,
            origin=found.classes,
            root=builder.data_path,
        )
        kept = np.flatnonzero(labels >= 0)
        numbers, labels = numbers[kept], labels[kept]
        names = tuple(names[number] for number in kept)
    root = Path(builder.data_path)

    def content(number: int) -> bytes:
        (record,) = read_records(records, [int(numbers[number])], root)
        return record[found.image]

    files = ImageFiles(root, names, labels, found.chosen or found.all_classes)
    return streamed(files, resolution, content)


def _records(builder: tfds.core.DatasetBuilder, split: str) -> Records:
    """Returns the records of a split, and makes the builder use their format."""
    try:
        return builder.as_data_source(
            split,
            decoders={
                key: tfds.decode.SkipDecoding()
                for key, feature in builder.info.features.items()
                if isinstance(feature, tfds.features.Image)
            },
            file_format=FORMAT,
        )
    except ModuleNotFoundError as error:
        raise missing_package(error) from error


def _shards(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[Shard]:
    return [
        Shard(
            path=Path(each.filename),
            split=naming.FilenameInfo.from_str(each.filename).split,
            first=each.skip,
            records=each.take,
        )
        for each in base.file_instructions(builder.info, split)
    ]
