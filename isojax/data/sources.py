"""Loads image sets by name, as uint8 arrays in host memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from isojax.data import cache
from isojax.data.bucket_copy import BucketCopy, copy_part
from isojax.data.cache import Images
from isojax.data.dataset import Dataset, Split, select, with_validation
from isojax.data.digits import load_digits
from isojax.data.folders import load_folder
from isojax.data.overlap import is_overlapping, may_share_images
from isojax.errors import UsageError
from isojax.fields import ARRAYS, FOLDER
from isojax.output import print_line
from isojax.runs.bucket import is_url

_DATA_DIR = "~/tensorflow_datasets"
# Needed to prepare a data set of tensorflow-datasets, but not to read it afterwards.
_PREPARING_PACKAGES = ("tensorflow", "tensorflow_datasets", "importlib_resources")


class ImageSource(NamedTuple):
    """The choice of a run's images: section `data` of a config.

    Attributes:
      name: "digits", "tiny_imagenet" or a name of tensorflow-datasets. Not used with
        a folder.
      resolution: side of the square images, in pixels.
      pretrain_split: split for pretraining, in the notation of tensorflow-datasets.
        Its images may lack labels.
      train_split: labelled split for the readout.
      evaluation_split: labelled split for accuracies.
      validation_fraction: part of each class of `train_split` that is used neither for
        pretraining nor for the readout and replaces `evaluation_split`; 0 for none.
      folder: folder of images, whose subfolders are the splits; "" for none.
      streaming: whether the images are decoded when they are read. Without a folder,
        those of a prepared set of tensorflow-datasets in the format array_record.
      classes: file with the class folders, or names of classes, to use, one a line; ""
        for all. Not used for a set without a folder that is not streamed.
    """

    name: str
    resolution: int
    pretrain_split: str = "train"
    train_split: str = "train"
    evaluation_split: str = "test"
    validation_fraction: float = 0.0
    folder: str = ""
    streaming: bool = False
    classes: str = ""


def load_dataset(
    source: ImageSource, *, data_dir: str | os.PathLike | None = None
) -> Dataset:
    """Loads a data set. The first call downloads and decodes it.

    Args:
      source: name, resolution and splits of the data set.
      data_dir: folder of the data sets, not used for the digits. The default is the
        environment variable TFDS_DATA_DIR, or ~/tensorflow_datasets if it is not set.
        Sets in a bucket, such as gs://bucket/data, are copied to that default.

    Returns:
      The data set. Its images are memory-mapped, unless they are the digits, a part is
      held out or they are streamed.

    Raises:
      UsageError: if a name or split does not exist or has no labels, the images cannot
        be downloaded, the splits `train` and `evaluation` overlap, or holding out
        leaves a part without images.
    """
    if source.resolution < 1:
        raise UsageError(f"config.data.resolution={source.resolution}: set it above 0")
    if source.name == FOLDER and not source.folder:
        raise UsageError(
            "the images are those of a folder, and config.data.folder is empty; set "
            "--config.data.folder=PATH, where PATH contains "
            f"{source.train_split}/CLASS/* and {source.evaluation_split}/CLASS/*"
        )
    if source.streaming and not source.folder:
        _check_name(source.name)
        chosen = _chosen_data_dir(data_dir)
        if is_url(chosen):
            chosen = str(_copy_part(chosen, [_prepared_folder(source)]).root)
        dataset = _load_records(source, Path(chosen))
        return with_validation(dataset, source.validation_fraction)
    if source.folder:
        chosen = _chosen_data_dir(data_dir)
        if is_url(chosen):
            raise UsageError(
                f"--data_dir={chosen} cannot hold the decoded images of the folder "
                f"{source.folder}; choose a local directory"
            )
        dataset = load_folder(
            source.folder,
            resolution=source.resolution,
            pretrain_split=source.pretrain_split,
            train_split=source.train_split,
            evaluation_split=(
                None if source.validation_fraction > 0 else source.evaluation_split
            ),
            data_dir=Path(chosen),
            streaming=source.streaming,
            classes=source.classes,
        )
        return with_validation(dataset, source.validation_fraction)
    train = _read_labelled(source, "train_split", data_dir)
    pretrain = train
    if source.pretrain_split != source.train_split:
        pretrain = _read(source, source.pretrain_split, data_dir)
    training = _split(train)
    pretraining = training if pretrain is train else _split(pretrain)
    if source.validation_fraction > 0:
        evaluation_name, evaluation = "", select(training, slice(0))
    else:
        evaluation_name = source.evaluation_split
        evaluation = _split(_read_labelled(source, "evaluation_split", data_dir))
        _check_disjoint(training, evaluation, source)
    dataset = Dataset(
        pretraining,
        training,
        evaluation,
        evaluation_name,
        num_classes=len(train.label_names),
        label_names=train.label_names,
    )
    return with_validation(dataset, source.validation_fraction)


def from_folder(
    path: str | os.PathLike,
    *,
    resolution: int,
    data_dir: str | os.PathLike | None = None,
) -> Dataset:
    """Loads image files: `path/train/CLASS/*` and `path/test/CLASS/*`.

    Without class folders, or directly in `path`, the images have no labels. The folder
    `test` may be missing. JPEG, PNG, WebP, BMP and TIFF files of any size are decoded
    once, into a cache in `data_dir`. The largest centred square of an image is resized
    to `resolution`, bicubic and antialiased. Images are turned upright as their EXIF
    orientation says, transparency is ignored, and 16-bit images keep their upper 8
    bits. Files that cannot be decoded are left out and reported.

    Args:
      path: the folder, which is not written to.
      resolution: side of the square images, in pixels.
      data_dir: folder that contains the cache, as in `load_dataset`.

    Returns:
      The data set. Its images are memory-mapped, with 1 channel if all files are grey,
      otherwise 3.

    Raises:
      UsageError: if a folder is missing or empty, there is only one class, a class has
        no test images, the resolution is not a positive integer, or the images cannot
        be decoded or stored.
    """
    if not isinstance(resolution, int | np.integer) or resolution < 1:
        raise UsageError(
            f"resolution={resolution!r} is not a number of pixels; pass a positive "
            "integer"
        )
    source = ImageSource(FOLDER, resolution, folder=os.fspath(path))
    return load_dataset(source, data_dir=data_dir)


def _load_records(source: ImageSource, data_dir: Path) -> Dataset:
    if source.name == "digits":
        raise UsageError(
            "config.data.streaming=True, but the digits are already decoded; set "
            "config.data.streaming=False, or config.data.name or config.data.folder to "
            "larger images"
        )
    try:
        from isojax.data.streamed_records import load_records
    except ModuleNotFoundError as error:
        if error.name not in _PREPARING_PACKAGES:
            raise
        raise UsageError(
            f"reading config.data.name={source.name} needs the package {error.name}, "
            "which is not installed: pip install tensorflow-datasets "
            "importlib_resources"
        ) from error

    is_held_out = source.validation_fraction > 0
    dataset = load_records(
        source.name,
        resolution=source.resolution,
        pretrain_split=source.pretrain_split,
        train_split=source.train_split,
        evaluation_split=None if is_held_out else source.evaluation_split,
        data_dir=data_dir,
        classes=source.classes,
    )
    _check_disjoint(dataset.train, dataset.evaluation, source)
    return dataset


def _check_disjoint(train: Split, evaluation: Split, source: ImageSource) -> None:
    if may_share_images(source.train_split, source.evaluation_split) and is_overlapping(
        train.images, evaluation.images
    ):
        raise UsageError(
            f"config.data.train_split={source.train_split} and "
            f"config.data.evaluation_split={source.evaluation_split} share images, so "
            "that accuracies would be measured on training images; choose splits that "
            "do not overlap"
        )


def _split(images: Images) -> Split:
    return Split(images.images, images.labels)


def _read_labelled(
    source: ImageSource, field: str, data_dir: str | os.PathLike | None
) -> Images:
    found = _read(source, getattr(source, field), data_dir)
    unlabelled = int((found.labels < 0).sum())
    if unlabelled:
        raise UsageError(
            f"config.data.{field}={getattr(source, field)}: {unlabelled:,} images "
            f"have no label; choose another split of {', '.join(found.splits)}"
        )
    return found


def _read(
    source: ImageSource, split: str, data_dir: str | os.PathLike | None
) -> Images:
    _check_name(source.name)
    if source.name == "digits":
        return _read_digits(split, source.resolution)
    set_name = quote(f"{source.name}-{source.resolution}", safe="")
    part = f"isojax/{set_name}/{quote(split, safe='+')}"
    chosen = _chosen_data_dir(data_dir)
    if is_url(chosen):
        copy = _copy_part(chosen, [part, _prepared_folder(source)])
        if copy.part == part:
            return _read_copy(chosen, copy)
        chosen = str(copy.root)
    return _read_cached(source, split, Path(chosen) / part, Path(chosen))


def _read_copy(url: str, copy: BucketCopy) -> Images:
    """Reads decoded images that were copied from a bucket."""
    folder = copy.root / copy.part
    try:
        found = cache.read_images(folder)
    except cache.DamagedCacheError as error:
        print_line(
            f"The images in {folder} are damaged ({error}); copying them again ..."
        )
        cache.remove_images(folder)
        _copy_part(url, [copy.part])
        try:
            found = cache.read_images(folder)
        except cache.DamagedCacheError:
            found = None
    if found is None:
        raise UsageError(
            f"the images in {url}/{copy.part} are damaged or of another version of "
            "isojax; decode them again in a local directory and copy that to the bucket"
        )
    return found


def _check_name(name: str) -> None:
    """Checks that a data set's name stands for neither arrays nor a path."""
    if name == ARRAYS:
        raise UsageError(
            f"config.data.name={ARRAYS}: these images were passed from Python; pass "
            "them again, as dataset=isojax.data.from_arrays(...) to "
            "isojax.training.pretrain or isojax.evaluation.evaluate_run"
        )
    if is_path(name):
        raise UsageError(path_refusal(name))


def _prepared_folder(source: ImageSource) -> str:
    """Returns the folder of a set, configuration or version of tensorflow-datasets."""
    return source.name.replace(":", "/")


def _chosen_data_dir(data_dir: str | os.PathLike | None) -> str:
    """Returns the absolute path, or the URL, of the data sets."""
    chosen = os.fspath(data_dir or os.environ.get("TFDS_DATA_DIR") or _DATA_DIR)
    return chosen if is_url(chosen) else os.path.abspath(os.path.expanduser(chosen))


def _copy_part(url: str, parts: Sequence[str]) -> BucketCopy:
    """Copies one of `parts` from a bucket to the default folder of the data sets."""
    local = _chosen_data_dir(None)
    if is_url(local):
        local = os.path.expanduser(_DATA_DIR)
    return copy_part(url, parts, Path(local))


def is_path(name: str) -> bool:
    """Returns whether a data set's name is meant as a path."""
    # Names of tensorflow-datasets may contain a slash before the configuration.
    return name.startswith(("/", "./", "../", "~")) or "://" in name


def path_refusal(name: str) -> str:
    """Returns the error message for a data set's name that is a path."""
    return (
        f"config.data.name={name} is a path; for a folder of images, set "
        f"config.data.folder={name} instead"
    )


def _read_digits(split: str, resolution: int) -> Images:
    splits = ("train", "test")
    if split not in splits:
        raise UsageError(f"digits has no split {split!r}; it has {', '.join(splits)}")
    arrays = load_digits()
    images = arrays[f"{split}_images"]
    if resolution != images.shape[1]:
        raise UsageError(
            f"config.data.resolution={resolution}: the digits are 28x28 images; set it "
            "to 28"
        )
    labels = arrays[f"{split}_labels"].astype(np.int32)
    return Images(images, labels, tuple("0123456789"), splits)


def _read_cached(
    source: ImageSource, split: str, folder: Path, data_dir: Path
) -> Images:
    try:
        found = cache.read_images(folder)
    except cache.DamagedCacheError as error:
        print_line(
            f"The images in {folder} are damaged ({error}); decoding them again ..."
        )
        found = None
    if found is not None:
        return found
    try:
        from isojax.data import prepared  # imports TensorFlow, which takes seconds
    except ModuleNotFoundError as error:
        if error.name not in _PREPARING_PACKAGES:
            raise
        if error.name == "tensorflow":
            from isojax.data.builders import find_builder

            find_builder(source.name, data_dir)  # raises if the name is unknown
        raise UsageError(
            f"preparing config.data.name={source.name} needs the package {error.name}, "
            "which is not installed: in Python 3.11 to 3.13, pip install "
            "tensorflow-cpu tensorflow-datasets importlib_resources"
        ) from error

    prepared.fill_cache(
        folder, source.name, split, resolution=source.resolution, data_dir=data_dir
    )
    found = cache.read_images(folder)
    if found is None:
        raise UsageError(
            f"the images in {folder} were deleted while they were read; run the same "
            "command again"
        )
    return found
