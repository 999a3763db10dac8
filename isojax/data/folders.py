"""Data sets of image files in folders."""

from pathlib import Path

import numpy as np

from isojax.data.cache import Images
from isojax.data.dataset import Dataset, Split, labelled
from isojax.data.folder_cache import decoded_images
from isojax.data.folder_listing import ImageFiles, list_images, split_names
from isojax.data.overlap import is_overlapping
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

    Returns:
      The data set. The images have 1 channel if all files are grey, otherwise 3.

    Raises:
      UsageError: if a split is missing, empty or cannot be decoded, there is only one
        class, a class has no evaluation images, or training and evaluation images are
        the same.
    """
    files = {"train": list_images(folder, train_split)}
    names = files["train"].label_names
    if len(names) == 1:
        raise UsageError(
            f"{folder}/{train_split} has one class folder, {names[0]}. Add a second "
            f"class, or move the images into {folder}/{train_split} to use them "
            "without labels"
        )
    if pretrain_split != train_split:
        files["pretrain"] = list_images(folder, pretrain_split, label_names=names)
        _check_labels(files["pretrain"], names, pretrain_split, train_split)
    if evaluation_split is not None and (
        evaluation_split != _TEST or _TEST in split_names(folder)
    ):
        files["evaluation"] = list_images(folder, evaluation_split, label_names=names)
        _check_labels(files["evaluation"], names, evaluation_split, train_split)
        _check_all_classes(files["evaluation"], evaluation_split)
    splits = {
        "train": train_split,
        "pretrain": pretrain_split,
        "evaluation": evaluation_split or "",
    }
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
        num_classes=len(names),
        label_names=names,
        folder=str(files["train"].root.absolute()),
    )


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
