"""Optimisers by name: SGD as in the paper, LARS as in its official code, AdamW."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from isojax.errors import choose
from isojax.schedules import warmup_cosine
from isojax.training.lars import scale_by_trust_ratio


class OptimizerSettings(NamedTuple):
    """Settings of an optimiser: section `optimizer` of a config.

    Attributes:
      name: a name in `OPTIMIZERS`.
      learning_rate: largest learning rate, at the end of the warmup.
      momentum: fraction of the old update direction kept at a step; beta1 of AdamW.
      weight_decay: coefficient of the parameters in the update.
      trust_coefficient: size of a step relative to the parameters, for LARS.
      clip_trust_ratio: whether that size is at most the learning rate, for LARS.
      warmup_epochs: epochs of linear warmup, whole or fractional.
      warmup_start: learning rate at the first step.
    """

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    trust_coefficient: float
    clip_trust_ratio: bool
    warmup_epochs: float
    warmup_start: float


def sgd(
    settings: OptimizerSettings, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """SGD with momentum; weight decay is added to the gradient, as in PyTorch.

    Args:
      settings: settings of the optimiser.
      learning_rate: learning rate as a function of the step.

    Source: Halvagal et al. 2023, appendix D.
    """
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(learning_rate, momentum=settings.momentum),
    )


def lars(
    settings: OptimizerSettings, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """`scale_by_trust_ratio`, followed by SGD with momentum.

    Args:
      settings: settings of the optimiser.
      learning_rate: learning rate as a function of the step.

    Source: official code of Halvagal et al. 2023.
    """
    return optax.chain(
        scale_by_trust_ratio(
            learning_rate,
            trust_coefficient=settings.trust_coefficient,
            weight_decay=settings.weight_decay,
            clip=settings.clip_trust_ratio,
        ),
        optax.sgd(learning_rate, momentum=settings.momentum),
    )


def adamw(
    settings: OptimizerSettings, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW with beta2 0.999; the decay is not part of the adaptive gradient.

    As with LARS, arrays with one axis (biases, normalisation layers, class tokens) are
    not decayed.

    Args:
      settings: settings of the optimiser.
      learning_rate: learning rate as a function of the step.

    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
    """
    return optax.adamw(
        learning_rate,
        b1=settings.momentum,
        weight_decay=settings.weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )


OPTIMIZERS: dict[
    str,
    Callable[[OptimizerSettings, optax.Schedule], optax.GradientTransformation],
] = {"sgd": sgd, "lars": lars, "adamw": adamw}


def make_optimizer(
    settings: OptimizerSettings, *, steps_per_epoch: int, epochs: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Builds an optimiser with linear warmup and cosine decay of the learning rate.

    Args:
      settings: settings of the optimiser.
      steps_per_epoch: optimiser steps per epoch.
      epochs: length of the schedule.

    Returns:
      The gradient transformation and its learning rate as a function of the step.

    Raises:
      UsageError: if the optimiser is unknown.
    """
    make = choose("config.optimizer.name", settings.name, OPTIMIZERS)
    learning_rate = warmup_cosine(
        peak=settings.learning_rate,
        warmup_steps=round(settings.warmup_epochs * steps_per_epoch),
        total_steps=epochs * steps_per_epoch,
        init=settings.warmup_start,
    )
    return make(settings, learning_rate), learning_rate
