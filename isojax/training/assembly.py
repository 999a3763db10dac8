"""The parts of a run, made from its config and data."""

import optax
from ml_collections import ConfigDict

from isojax import parallel
from isojax.data import Dataset, channel_statistics
from isojax.errors import UsageError
from isojax.models import SiameseNetwork, build_network
from isojax.training.optimizer import make_optimizer
from isojax.training.state import TrainState, init_state


def check_data(config: ConfigDict, dataset: Dataset) -> None:
    """Checks that images and config fit together.

    Raises:
      UsageError: naming the field and the remedy.
    """
    images = dataset.pretrain.images
    if config.augment.kind == "simclr" and images.shape[-1] != 3:
        raise UsageError(
            f"config.augment.kind=simclr needs colour images, but {config.data.name} "
            f"has {images.shape[-1]} channel(s); set config.augment.kind=affine, with "
            "the fields of configs/digits.py"
        )
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
    if len(config.data.std) != len(config.data.mean):
        raise UsageError(
            f"config.data.std has {len(config.data.std)} values and config.data.mean "
            f"{len(config.data.mean)}; give one of each a channel"
        )
    steps = config.epochs * steps_per_epoch(config, dataset)
    if steps >= 2**31:  # the step is counted in int32
        raise UsageError(
            f"config.epochs={config.epochs} makes {steps:,} steps; set it to "
            f"{(2**31 - 1) // steps_per_epoch(config, dataset)} or less"
        )
    warmup = round(config.optimizer.warmup_epochs * steps_per_epoch(config, dataset))
    if warmup >= steps:
        raise UsageError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs} leaves "
            f"no step of config.epochs={config.epochs}; shorten it"
        )
    if config.batch_size // config.microbatches < 2:
        raise UsageError(
            f"config.batch_size={config.batch_size} leaves BatchNorm a single image at "
            f"a time with config.microbatches={config.microbatches}; enlarge the batch"
        )
    parallel.check_batch_size(config.batch_size, parts=config.microbatches)


def with_normalization(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    """The config with mean and std of the training images where it has none.

    Args:
      config: the run's configuration, left as it is.
      dataset: the run's images.

    Returns:
      The config, or a copy with `data.mean` and `data.std`.

    Raises:
      UsageError: if a channel has one value in all images.
    """
    names = [name for name in ("mean", "std") if config.data[name] is None]
    if not names:
        return config
    config = config.copy_and_resolve_references()
    mean, std = channel_statistics(dataset.pretrain.images)
    computed = {"mean": mean, "std": std}
    if "std" in names and min(std) == 0:
        raise UsageError(
            f"the images of {config.data.name} have standard deviations {std} in "
            "their channels, and none may be 0; set config.data.std"
        )
    for name in names:
        config.data[name] = computed[name]
    return config


def steps_per_epoch(config: ConfigDict, dataset: Dataset) -> int:
    """Optimiser steps of an epoch, whose last, partial batch is dropped."""
    return len(dataset.pretrain.labels) // config.batch_size


def last_step(config: ConfigDict, dataset: Dataset) -> int:
    """The step at which the run ends."""
    steps = config.epochs * steps_per_epoch(config, dataset)
    return min(steps, config.steps) if config.steps else steps


def build(
    config: ConfigDict, dataset: Dataset
) -> tuple[SiameseNetwork, optax.GradientTransformation, optax.Schedule]:
    """The network, its optimiser and the learning rate of a run."""
    network = build_network(
        config.model,
        predictor=config.method.predictor,
        axis_name=parallel.axis_name(),
        dtype=config.precision,
        remat=config.remat,
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
