"""The parts of a run, made from its config and data."""

import optax
from ml_collections import ConfigDict

from isojax import parallel
from isojax.data import Dataset
from isojax.errors import UsageError
from isojax.models import SiameseNetwork, build_network
from isojax.training.optimizer import make_optimizer
from isojax.training.state import TrainState, init_state


def check_data(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses images that do not fit the config.

    Raises:
      UsageError: naming the field and the remedy.
    """
    images = dataset.pretrain.images
    if config.batch_size > len(images):
        raise UsageError(
            f"config.batch_size={config.batch_size} is more than the {len(images)} "
            f"training images; set it to {len(images)} or less"
        )
    if images.shape[-1] != len(config.data.mean):
        raise UsageError(
            f"the images of {config.data.name} have shape {images.shape[1:]}, but "
            f"config.data.mean has {len(config.data.mean)} channels; give one value of "
            "mean and std a channel"
        )
    parallel.check_batch_size(config.batch_size)


def steps_per_epoch(config: ConfigDict, dataset: Dataset) -> int:
    """Optimiser steps of an epoch, whose last, partial batch is dropped."""
    return len(dataset.pretrain.labels) // config.batch_size


def build(
    config: ConfigDict, dataset: Dataset
) -> tuple[SiameseNetwork, optax.GradientTransformation, optax.Schedule]:
    """The network, its optimiser and the learning rate of a run."""
    network = build_network(
        config.model, predictor=config.method.predictor, axis_name=parallel.AXIS
    )
    return network, *make_optimizer(
        config.optimizer,
        steps_per_epoch=steps_per_epoch(config, dataset),
        epochs=config.epochs,
    )


def first_state(config: ConfigDict, dataset: Dataset) -> TrainState:
    """The state before the first step."""
    network, optimizer, _ = build(config, dataset)
    return init_state(
        network,
        optimizer,
        seed=config.seed,
        image_shape=dataset.pretrain.images.shape[1:],
        num_classes=dataset.num_classes,
        ema=config.method.target == "ema",
    )
