"""Loads the images of a run, and records in its config which ones they are."""

import os

import numpy as np
from ml_collections import ConfigDict

from isojax.data import Dataset, load_dataset
from isojax.data.dataset import images_checksum, labels_checksum, with_validation
from isojax.errors import UsageError
from isojax.fields import ARRAYS, FOLDER
from isojax.training.settings import image_source

# Splits of `from_arrays` and `from_folder`.
_OWN_SPLITS = {
    "pretrain_split": "train",
    "train_split": "train",
    "evaluation_split": "test",
}


def load_run_data(
    config: ConfigDict,
    dataset: Dataset | None,
    *,
    data_dir: str | os.PathLike | None = None,
) -> tuple[Dataset, ConfigDict]:
    """Returns the images of a run, and its config with a description of them.

    Args:
      config: the run's configuration, which is not changed.
      dataset: the user's own images; None to load those that `config.data` names.
      data_dir: folder of the data sets, as in `load_dataset`.

    Returns:
      The images and the config. For images of a folder or arrays, `data` has their
      `name`, `folder` and `resolution`, checksums of the images and labels for
      pretraining, and no mean and std unless they were set for such images.

    Raises:
      UsageError: if the images cannot be loaded, have no part to hold out, or are
        decoded although the config streams them.
    """
    source = image_source(config.data)
    if dataset is None and not source.folder:
        return load_dataset(source, data_dir=data_dir), config
    config = config.copy_and_resolve_references()
    if dataset is None:
        # The checksums are those of all images, before a part is held out.
        dataset = load_dataset(
            source._replace(validation_fraction=0), data_dir=data_dir
        )
    else:
        config.data.update(_OWN_SPLITS)
    if source.streaming and isinstance(dataset.pretrain.images, np.ndarray):
        raise UsageError(
            "config.data.streaming=True, but the images passed as dataset=... are "
            "already decoded; set config.data.streaming=False, or pass no dataset and "
            "set config.data.folder"
        )
    data, pretrain = config.data, dataset.pretrain
    name = FOLDER if dataset.folder else ARRAYS
    with data.unlocked():
        if data.name != name:  # mean and std belong to another data set
            data.mean = data.std = None
        data.name, data.folder = name, dataset.folder or ""
        data.resolution = pretrain.images.shape[1]
        data.images_checksum = images_checksum(pretrain.images)
        data.labels_checksum = labels_checksum(pretrain.labels)
    return with_validation(dataset, source.validation_fraction), config
