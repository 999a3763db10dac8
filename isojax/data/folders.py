"""Data sets of image files in folders."""

from pathlib import Path

import numpy as np

from isojax.data.cache import Images
from isojax.data.dataset import Dataset, Split, labelled
from isojax.data.folder_cache import decoded_images
from isojax.data.folder_listing import (
    ImageFiles,
    list_images,
    only_classes,
    read_classes,
    split_names,
)
from isojax.data.overlap import is_overlapping
from isojax.data.streamed_split import streamed
from isojax.errors import UsageError

_TEST = "test"  # the only evaluation split that may be missing


def load_folder(
    folder: str,
    *,
    resolution: int,
    pretrain_split: str,
    train_split: str,
    evaluation_split: str | None,
    data_dir: Path,
    streaming: bool = False,
    classes: str = "",
) -> Dataset:
    """Loads the images of a folder, whose subfolders are the splits.

    Args:
      folder: path of the folder.
      resolution: side of the square images, in pixels.
      pretrain_split: split for pretraining; labels may be missing.
      train_split: split for the readout. Its class folders define the classes; without
        them no image has a label.
      evaluation_split: split for accuracies; None for none. If it is "test" and there
        is no such subfolder, there are no evaluation images.
      data_dir: folder that contains the cache of decoded images.
      streaming: whether to decode images each time they are read, without a cache.
      classes: file with the names of the class folders to use, one a line; "" for all.

    Returns:
      The data set. The images have 1 channel if all files are grey, otherwise 3;
      always 3 if they are streamed.

    Raises:
      UsageError: if a split is missing, empty or cannot be decoded, there is only one
        class, a class has no evaluation images, training and evaluation images are the
        same, or a package for streaming is missing.
    """
    files = _list_splits(folder, pretrain_split, train_split, evaluation_split, classes)
    splits = {
        "train": train_split,
        "pretrain": pretrain_split,
        "evaluation": evaluation_split or "",
    }
    if streaming:
        parts = {part: streamed(found, resolution) for part, found in files.items()}
    else:
        parts = _with_same_channels(
            {
                part: decoded_images(
                    found, splits[part], resolution=resolution, data_dir=data_dir
                )
                for part, found in files.items()
            }
        )
    train = parts["train"]
    pretrain = parts.get("pretrain", train)
    evaluation = parts.get("evaluation", Split(train.images[:0], train.labels[:0]))
    if is_overlapping(train.images, evaluation.images):
        raise UsageError(
            f"{train_split} and {evaluation_split} of {folder} contain the same "
            "images, so that accuracies would be measured on training images; remove "
            "them from one of the two"
        )
    return Dataset(
        pretrain,
        labelled(train),
        evaluation,
        evaluation_split or "",
        num_classes=len(files["train"].label_names),
        label_names=files["train"].label_names,
        folder=str(files["train"].root.absolute()),
    )


def _list_splits(
    folder: str,
    pretrain_split: str,
    train_split: str,
    evaluation_split: str | None,
    classes: str,
) -> dict[str, ImageFiles]:
    """Returns the files of the parts that need reading: `train` and maybe others."""
    chosen = read_classes(classes) if classes else ()

    def list_split(split: str, names: tuple[str, ...] = ()) -> ImageFiles:
        if not chosen:
            return list_images(folder, split, label_names=names)
        return only_classes(list_images(folder, split), chosen, origin=classes)

    files = {"train": list_split(train_split)}
    names = files["train"].label_names
    if len(chosen) == 1:
        raise UsageError(
            f"config.data.classes={classes} names one class, {chosen[0]}; name at "
            "least two"
        )
    if len(names) == 1:
        raise UsageError(
            f"{folder}/{train_split} has one class folder, {names[0]}. Add a second "
            f"class, or move the images into {folder}/{train_split} to use them "
            "without labels"
        )
    if pretrain_split != train_split:
        files["pretrain"] = list_split(pretrain_split, names)
        _check_labels(files["pretrain"], names, pretrain_split, train_split)
    if evaluation_split is not None and (
        evaluation_split != _TEST or _TEST in split_names(folder)
    ):
        files["evaluation"] = list_split(evaluation_split, names)
        _check_labels(files["evaluation"], names, evaluation_split, train_split)
        _check_all_classes(files["evaluation"], evaluation_split)
    return files


def _check_labels(
    files: ImageFiles, names: tuple[str, ...], split: str, train_split: str
) -> None:
    """Checks that a split has labels only if the training split has."""
    if not names and files.label_names:
        raise UsageError(
            f"{files.root} has class folders in {split}, but none in {train_split}; "
            f"sort the images of {train_split} into the same class folders, or move "
            f"those of {split} out of them"
        )


def _check_all_classes(files: ImageFiles, split: str) -> None:
    """Checks that all images for evaluation have labels, and all classes images."""
    names, present = files.label_names, set(files.labels.tolist())
    if names and -1 in present:
        raise UsageError(
            f"{files.root}/{split} has images outside of class folders; sort them into "
            "class folders"
        )
    if missing := [name for n, name in enumerate(names) if n not in present]:
        raise UsageError(
            f"class {missing[0]} has no images in {files.root}/{split}; add some, or "
            "remove the class from all splits"
        )


def _with_same_channels(parts: dict[str, Images]) -> dict[str, Split]:
    """Repeats the channel of grey splits if another split has colours."""
    channels = max(part.images.shape[-1] for part in parts.values())
    return {
        name: Split(
            part.images
            if part.images.shape[-1] == channels
            else np.repeat(part.images, channels, axis=-1),
            part.labels,
        )
        for name, part in parts.items()
    }
