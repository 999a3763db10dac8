"""Assembles the parts of a run from its config and data."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.data import Dataset, channel_statistics
from isojax.errors import UsageError, choose
from isojax.fields import data_name, no_effect_reason
from isojax.models import build_network
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import (
    PRECISIONS,
    method_settings,
    network_settings,
    optimizer_settings,
    view_pair,
)
from isojax.training.state import TrainState, init_state
from isojax.training.step_context import StepContext


def check_data(config: ConfigDict, dataset: Dataset) -> None:
    """Checks that a config fits its images.

    Args:
      config: the run's configuration, with mean and standard deviation.
      dataset: the run's images.

    Raises:
      UsageError: if it does not. The message names the field and the remedy.
    """
    images = dataset.pretrain.images
    if config.augment.kind == "simclr" and images.shape[-1] not in (1, 3):
        raise UsageError(
            f"config.augment.kind=simclr needs images with 1 or 3 channels, but "
            f"{data_name(config.data)} has {images.shape[-1]}; set "
            "config.augment.kind=affine, with the fields of configs/digits.py"
        )
    if config.batch_size > len(images):
        raise UsageError(
            f"config.batch_size={config.batch_size} is more than the {len(images)} "
            f"training images; set it to {len(images)} or less"
        )
    if images.shape[-1] != len(config.data.mean):
        raise UsageError(
            f"the images of {data_name(config.data)} have shape {images.shape[1:]}, "
            f"but config.data.mean has {len(config.data.mean)} channels; set one value "
            "of mean and std per channel"
        )
    if len(config.data.std) != len(config.data.mean):
        raise UsageError(
            f"config.data.std has {len(config.data.std)} values and config.data.mean "
            f"{len(config.data.mean)}; set one of each per channel"
        )
    _check_patches(config, images.shape[1:3])
    _check_length(config, steps_per_epoch(config, dataset))
    if config.batch_size // config.microbatches < 2:
        raise UsageError(
            f"config.batch_size={config.batch_size} with "
            f"config.microbatches={config.microbatches} leaves fewer than 2 "
            "images per part, too few for BatchNorm; increase the batch size or "
            "reduce config.microbatches"
        )
    data_parallel.check_batch_size(config.batch_size, parts=config.microbatches)


def _check_patches(config: ConfigDict, sides: tuple[int, int]) -> None:
    size = config.model.patch_size
    is_used = no_effect_reason(config, "model.patch_size") is None
    if is_used and any(side % size for side in sides):
        divisors = [d for d in range(2, min(sides)) if not any(s % d for s in sides)]
        remedy = f"choose one of {', '.join(map(str, divisors))}, or "
        raise UsageError(
            f"config.model.patch_size={size} does not divide the sides of the images, "
            f"{sides[0]}×{sides[1]} pixels; {remedy if divisors else ''}set another "
            "config.data.resolution"
        )


def _check_length(config: ConfigDict, steps_per_epoch: int) -> None:
    steps = config.epochs * steps_per_epoch
    if steps >= 2**31:  # the step is counted in int32
        raise UsageError(
            f"config.epochs={config.epochs} is {steps:,} steps; set it to "
            f"{(2**31 - 1) // steps_per_epoch} or less"
        )
    if round(config.optimizer.warmup_epochs * steps_per_epoch) >= steps:
        raise UsageError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs} takes "
            f"all steps of config.epochs={config.epochs}; reduce it"
        )


def with_normalization(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    """Fills in mean and standard deviation of the training images if they are not set.

    Args:
      config: the run's configuration, which is not changed.
      dataset: the run's images.

    Returns:
      The config, or a copy with `data.mean` and `data.std`.

    Raises:
      UsageError: if a channel has the same value in all images.
    """
    names = [name for name in ("mean", "std") if config.data[name] is None]
    if not names:
        return config
    config = config.copy_and_resolve_references()
    mean, std = channel_statistics(dataset.pretrain.images)
    computed = {"mean": mean, "std": std}
    if "std" in names and min(std) == 0:
        raise UsageError(
            f"the channels of the images of {data_name(config.data)} have standard "
            f"deviations {std}, and none may be 0; set config.data.std"
        )
    for name in names:
        config.data[name] = computed[name]
    return config


def steps_per_epoch(config: ConfigDict, dataset: Dataset) -> int:
    """Optimiser steps per epoch; the last, partial batch of an epoch is dropped."""
    return len(dataset.pretrain.labels) // config.batch_size


def last_step(config: ConfigDict, dataset: Dataset) -> int:
    """The step at which the run ends."""
    steps = config.epochs * steps_per_epoch(config, dataset)
    return min(steps, config.steps) if config.steps else steps


def build_step_context(
    config: ConfigDict,
    dataset: Dataset,
    *,
    backbone: nn.Module | None = None,
    devices: data_parallel.Devices = None,
) -> StepContext:
    """Builds network, optimiser and settings of a run's step.

    Args:
      config: the run's configuration, with mean and standard deviation.
      dataset: the run's images.
      backbone: the user's backbone; None for the one that the config names.
      devices: the devices that the step is compiled for; None for those of JAX.
    """
    method = method_settings(config)
    axis_name = data_parallel.axis_name(devices)
    dtype = choose("config.precision", config.precision, PRECISIONS)
    network = build_network(
        network_settings(config),
        predictor=method.learned_predictor,
        axis_name=axis_name,
        dtype=dtype,
        remat=config.remat,
        backbone=backbone,
    )
    steps = steps_per_epoch(config, dataset)
    optimizer, learning_rate = make_optimizer(
        optimizer_settings(config), steps_per_epoch=steps, epochs=config.epochs
    )
    return StepContext(
        network=network,
        optimizer=optimizer,
        learning_rate=learning_rate,
        method=method,
        views=view_pair(config),
        total_steps=steps * config.epochs,
        microbatches=config.microbatches,
        axis_name=axis_name,
        # Another backbone may have batch statistics that are not isojax's. In float32
        # the variance, which takes two passes, would be computed from a copy on TPUs.
        stacks_views=backbone is None
        and dtype == jnp.bfloat16
        and not data_parallel.is_cpu(devices),
    )


def first_state(
    config: ConfigDict, dataset: Dataset, *, backbone: nn.Module | None = None
) -> TrainState:
    """Returns the state of a run before the first step.

    The arguments are those of `build_step_context`. The state is the same on any
    devices.
    """
    context = build_step_context(config, dataset, backbone=backbone)
    return init_state(
        context.network,
        context.optimizer,
        seed=config.seed,
        image_shape=dataset.pretrain.images.shape[1:],
        # Without labels the probe has one class, and its loss and gradient are zero.
        num_classes=max(1, dataset.num_classes),
        ema=context.method.has_moving_target,
    )
