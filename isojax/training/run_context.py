"""The objects that the training loop uses, and the position where it starts."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.data import Dataset, Split
from isojax.runs import layout
from isojax.stopping import StopRequest
from isojax.training.assembly import (
    build_step_context,
    first_state,
    last_step,
    steps_per_epoch,
)
from isojax.training.checkpoint import Checkpoints
from isojax.training.feeding import Feed, with_shared_images
from isojax.training.metric_writers import LoggingOptions, read_options
from isojax.training.settings import crop_pair
from isojax.training.state import TrainState
from isojax.training.step import train_step
from isojax.training.step_context import StepContext

if TYPE_CHECKING:
    from isojax.training.streamed_feed import StreamedFeed


@dataclass(frozen=True)
class RunContext:
    """Holds the objects that the training loop uses.

    Attributes:
      config: the run's configuration, with mean and standard deviation.
      dataset: the run's images.
      backbone: the user's backbone; None for the one that the config names.
      workdir: the run's folder.
      stop: request to stop.
      options: options of the metric writers.
      steps_per_epoch: optimiser steps per epoch.
      last_step: step at which the run ends.
      step_context: network, optimiser and settings of a step.
      step: the training step, mapped over the devices.
      feed: batches on the devices.
      checkpoints: checkpoints of the run.
    """

    config: ConfigDict
    dataset: Dataset
    backbone: nn.Module | None
    workdir: Path
    stop: StopRequest
    options: LoggingOptions
    steps_per_epoch: int
    last_step: int
    step_context: StepContext
    step: data_parallel.MappedStep
    feed: "Feed | StreamedFeed"
    checkpoints: Checkpoints

    @property
    def epochs(self) -> int:
        """Number of epochs, the last of which may be partial."""
        return -(-self.last_step // self.steps_per_epoch)

    @property
    def figures(self) -> Path:
        """Folder of the run's figures."""
        return self.workdir / layout.FIGURES_FOLDER


class Position(NamedTuple):
    """How far a run has come.

    Attributes:
      state: the state, on the devices.
      steps_done: the state's step as an integer, known without waiting for the devices.
    """

    state: TrainState
    steps_done: int


def open_run_context(
    config: ConfigDict,
    dataset: Dataset,
    workdir: Path,
    stop: StopRequest,
    *,
    backbone: nn.Module | None = None,
) -> RunContext:
    """Creates the objects of a run.

    Args:
      config: the run's configuration, with mean and standard deviation.
      dataset: the run's images.
      workdir: the run's folder, which exists.
      stop: request to stop.
      backbone: the user's backbone; None for the one that the config names.

    Raises:
      UsageError: if config.data.feed is "device" and the images exceed its memory.
    """
    step_context = build_step_context(config, dataset, backbone=backbone)
    steps = steps_per_epoch(config, dataset)
    return RunContext(
        config=config,
        dataset=dataset,
        backbone=backbone,
        workdir=workdir,
        stop=stop,
        options=read_options(config),
        steps_per_epoch=steps,
        last_step=last_step(config, dataset),
        step_context=step_context,
        step=data_parallel.MappedStep(
            with_shared_images(partial(train_step, step_context))
        ),
        feed=_make_feed(config, dataset.pretrain),
        checkpoints=Checkpoints(
            workdir,
            keep_last=config.checkpoint.keep_last,
            keep_every_steps=config.checkpoint.keep_every_epochs * steps,
        ),
    )


def _make_feed(config: ConfigDict, split: Split) -> "Feed | StreamedFeed":
    if isinstance(split.images, np.ndarray):
        return Feed(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            place=config.data.feed,
        )
    # Imports packages that only streaming needs.
    from isojax.training.streamed_feed import StreamedFeed

    return StreamedFeed(
        split.images,
        split.labels,
        crops=crop_pair(config),
        batch_size=config.batch_size,
        seed=config.seed,
    )


def starting_position(context: RunContext) -> Position:
    """Returns the newest checkpoint's state, or the first state without a checkpoint.

    Args:
      context: the run.

    Raises:
      UsageError: if there are checkpoints, but none can be read.
    """
    state = first_state(context.config, context.dataset, backbone=context.backbone)
    if context.checkpoints.agreed_steps():
        state = context.checkpoints.restore(state, set_aside=True)
    return Position(data_parallel.replicate(state), int(state.step))
