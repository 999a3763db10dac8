"""The images that a run is evaluated on."""

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from isojax.data import Dataset, load_dataset
from isojax.data.overlap import count_common, may_share_images
from isojax.errors import UsageError
from isojax.training.settings import image_source


def load_images(
    run_data: ConfigDict,
    changes: Mapping[str, Any],
    *,
    data_dir: str | os.PathLike | None = None,
) -> tuple[Dataset, int]:
    """Loads the images of an evaluation.

    Args:
      run_data: section `data` of the run's config.
      changes: fields of `run_data` to override in the evaluation, by name.
      data_dir: the folder of the data sets, as in `load_dataset`.

    Returns:
      The data set, and the number of its evaluation images that the encoder was
      pretrained on.

    Raises:
      UsageError: if the images cannot be loaded or do not fit the encoder.
    """
    data = evaluation_data(run_data, changes)
    dataset = load_dataset(image_source(data), data_dir=data_dir)
    channels, expected = dataset.train.images.shape[-1], len(run_data.mean)
    if channels != expected:
        raise UsageError(
            f"the images of {data.name} have {channels} channels, but the encoder was "
            f"trained on {expected}; choose a data set with {expected}"
        )
    source = data.train_split if data.validation_fraction > 0 else data.evaluation_split
    is_possible = data.name == run_data.name and may_share_images(
        source, run_data.pretrain_split
    )
    if not is_possible:
        return dataset, 0
    pretrain = dataset.pretrain
    if changes:
        own = ConfigDict(run_data.to_dict())
        own.resolution = data.resolution  # so that equal images have equal bytes
        pretrain = load_dataset(image_source(own), data_dir=data_dir).pretrain
    return dataset, count_common(dataset.evaluation.images, pretrain.images)


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
