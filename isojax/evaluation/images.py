"""The images that a run is evaluated on."""

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from isojax import processes
from isojax.data import Dataset, load_dataset
from isojax.data.dataset import images_checksum, with_validation
from isojax.data.overlap import count_common, may_share_images
from isojax.errors import UsageError
from isojax.fields import ARRAYS, FOLDER, data_name
from isojax.training.settings import image_source


def load_images(
    run_data: ConfigDict,
    changes: Mapping[str, Any],
    *,
    given: Dataset | None = None,
    data_dir: str | os.PathLike | None = None,
) -> tuple[Dataset, int]:
    """Loads the images of an evaluation.

    Args:
      run_data: section `data` of the run's config.
      changes: fields of `run_data` to override in the evaluation, by name.
      given: the user's own images; None to load those that `run_data` names.
      data_dir: the folder of the data sets, as in `load_dataset`.

    Returns:
      The data set, and the number of its evaluation images that the encoder was
      pretrained on.

    Raises:
      UsageError: if the images cannot be loaded, lack labels or test images, or do not
        fit the encoder.
    """
    data = evaluation_data(run_data, changes)
    if given is None:
        source = image_source(data)
        dataset = load_dataset(source, data_dir=data_dir)
        if source.folder and not changes:
            _warn_if_changed(dataset, data)
    else:
        dataset = with_validation(given, data.validation_fraction)
    _check_labels(dataset, data)
    channels, expected = dataset.train.images.shape[-1], len(run_data.mean)
    if channels != expected:
        raise UsageError(
            f"the images of {data_name(data)} have {channels} channels, but the "
            f"encoder was trained on {expected}; choose a data set with {expected}"
        )
    if not _may_share_images(data, run_data):
        return dataset, 0
    pretrain = dataset.pretrain
    if changes and given is not None:
        pretrain = with_validation(given, run_data.validation_fraction).pretrain
    elif changes:
        own = ConfigDict(run_data.to_dict())
        own.resolution = data.resolution  # so that equal images have equal bytes
        pretrain = load_dataset(image_source(own), data_dir=data_dir).pretrain
    return dataset, count_common(dataset.evaluation.images, pretrain.images)


def _warn_if_changed(dataset: Dataset, run_data: ConfigDict) -> None:
    """Prints a warning if a folder has other images than those of pretraining.

    Does nothing if a part is held out: the checksum is that of all images.
    """
    checksum = run_data.get("images_checksum")
    if checksum is None or run_data.validation_fraction > 0:
        return
    if images_checksum(dataset.pretrain.images) != checksum:
        processes.print_once(
            f"Warning: the images in {run_data.folder} have changed since pretraining; "
            "test images that the encoder was pretrained on cannot be detected."
        )


def changes_of(dataset: Dataset, run_data: ConfigDict) -> dict[str, Any]:
    """Returns how a user's own images differ from those that a run was trained on.

    Args:
      dataset: the images.
      run_data: section `data` of the run's config.

    Returns:
      The fields of `run_data` that differ, by name; none for the run's own images.
    """
    checksum = images_checksum(dataset.pretrain.images)
    if run_data.get("images_checksum") == checksum:
        return {}
    fields = {"name": ARRAYS, "folder": "", "images_checksum": checksum}
    return {k: v for k, v in fields.items() if v != run_data.get(k)}


def _may_share_images(data: ConfigDict, run_data: ConfigDict) -> bool:
    """Returns whether images of an evaluation can be training images of the run."""
    fields = ("name", "folder", "images_checksum")
    if any(data.get(field) != run_data.get(field) for field in fields):
        return False
    if data.name in (ARRAYS, FOLDER):  # files and arrays may hold an image twice
        return True
    source = data.train_split if data.validation_fraction > 0 else data.evaluation_split
    return may_share_images(source, run_data.pretrain_split)


def _check_labels(dataset: Dataset, data: ConfigDict) -> None:
    """Checks that images have what an evaluation needs.

    Raises:
      UsageError: if there are no labels or no test images.
    """
    is_folder = data.name == FOLDER
    if not len(dataset.train.labels):
        remedy = (
            f"sort them into {data.folder}/train/CLASS and {data.folder}/test/CLASS, "
            "or choose other images with --config.data.folder or --config.data.name"
            if is_folder
            else "pass labels, test_images and test_labels to isojax.data.from_arrays"
        )
        raise UsageError(
            f"evaluation needs labels, which the images of {data_name(data)} do not "
            f"have; {remedy}"
        )
    if not len(dataset.evaluation.labels):
        remedy = f"add {data.folder}/test/CLASS" if is_folder else "pass test_images"
        raise UsageError(
            f"evaluation needs test images, which {data_name(data)} does not have; "
            f"{remedy}, or hold out a part with config.data.validation_fraction=0.2, "
            "preferably before pretraining"
        )


def evaluation_data(data: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns section `data` of a run with some fields changed.

    Mean and std stay those of the encoder's images, which its weights depend on.
    """
    changed = ConfigDict(data.to_dict())
    if changes:
        changed.update(changes)
        # Not used in evaluation; the other data set may have no such split.
        changed.pretrain_split = changed.train_split
    return changed
