"""SGD as the paper used it."""

import optax
from ml_collections import ConfigDict

from isojax.schedules import warmup_cosine


def make_optimizer(
    optimizer: ConfigDict, *, steps_per_epoch: int, epochs: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """SGD with momentum, weight decay, and a warmup-cosine learning rate.

    Weight decay is added to the gradient of every parameter before momentum, as in
    PyTorch's SGD.

    Args:
      optimizer: the config's section of that name.
      steps_per_epoch: optimiser steps of an epoch.
      epochs: length of the run.

    Returns:
      The gradient transformation and its learning rate as a function of the step.

    Source: Halvagal et al. 2023, appendix D.
    """
    learning_rate = warmup_cosine(
        peak=optimizer.learning_rate,
        warmup_steps=round(optimizer.warmup_epochs * steps_per_epoch),
        total_steps=epochs * steps_per_epoch,
    )
    return (
        optax.chain(
            optax.add_decayed_weights(optimizer.weight_decay),
            optax.sgd(learning_rate, momentum=optimizer.momentum),
        ),
        learning_rate,
    )
