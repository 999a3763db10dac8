"""The optimisers of the paper and of its official code."""

import optax
from ml_collections import ConfigDict

from isojax.schedules import warmup_cosine
from isojax.training.lars import scale_by_clipped_trust_ratio

OPTIMIZERS = ("sgd", "lars")


def make_optimizer(
    optimizer: ConfigDict, *, steps_per_epoch: int, epochs: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """SGD with momentum, weight decay, and a warmup-cosine learning rate; or LARS.

    SGD adds weight decay to the gradient of every parameter before momentum, as in
    PyTorch; LARS is `scale_by_clipped_trust_ratio` before momentum.

    Args:
      optimizer: the config's section of that name.
      steps_per_epoch: optimiser steps of an epoch.
      epochs: length of the schedule.

    Returns:
      The gradient transformation and its learning rate as a function of the step.

    Source: Halvagal et al. 2023, appendix D, and its official code.
    """
    learning_rate = warmup_cosine(
        peak=optimizer.learning_rate,
        warmup_steps=round(optimizer.warmup_epochs * steps_per_epoch),
        total_steps=epochs * steps_per_epoch,
        init=optimizer.warmup_start,
    )
    if optimizer.name == "lars":
        decay = scale_by_clipped_trust_ratio(
            learning_rate,
            trust_coefficient=optimizer.trust_coefficient,
            weight_decay=optimizer.weight_decay,
        )
    else:
        decay = optax.add_decayed_weights(optimizer.weight_decay)
    momentum = optax.sgd(learning_rate, momentum=optimizer.momentum)
    return optax.chain(decay, momentum), learning_rate
