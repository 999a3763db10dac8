"""A step's gradient, summed up part by part where its batch does not fit in memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from isojax.training.state import TrainState

# From state and a part of the batch to its gradients, its new batch_stats, its new
# correlation, what is stacked, and what is averaged.
PartGradient = Callable[[TrainState, Any], tuple[Any, Any, Array, Any, Any]]


def accumulate(
    gradient_of_part: PartGradient, state: TrainState, batch: Any, *, parts: int
) -> tuple[Any, Any, Array, Any, Any]:
    """Does the parts of a batch one after the other, with memory for one.

    The loss is a mean over images, so the gradients' mean over parts is the gradient
    of the whole batch wherever an image's loss depends on that image alone. Two things
    tie the images of a batch together, and see a part instead:

    BatchNorm normalises each part by the part's own statistics (those over all devices,
    where there are several), as if the batch were that small. Running statistics are
    updated once a part. Where that matters take `config.remat` instead, which keeps the
    whole batch's statistics.

    The correlation is updated once a part, by the caller with the `parts`-th root of
    its decay, so that a step forgets as much as it would with the batch whole; a
    part's predictor is made of the correlation up to this part.

    Args:
      gradient_of_part: of `state`, whose `batch_stats` and `correlation` are those
        after the part before, and of a part of `batch`.
      state: of the run.
      batch: arrays (n, ...), n divisible by `parts`.
      parts: how many.

    Returns:
      As `gradient_of_part`: gradients and what is averaged, their means; batch_stats
      and correlation, after the last part; what is stacked, over all rows.
    """
    if parts == 1:
        return gradient_of_part(state, batch)

    def one_part(carry, part):
        batch_stats, correlation, means = carry
        gradients, batch_stats, correlation, rows, averaged = gradient_of_part(
            state.replace(batch_stats=batch_stats, correlation=correlation), part
        )
        means = jax.tree.map(
            lambda mean, value: mean + value / parts, means, (gradients, averaged)
        )
        return (batch_stats, correlation, means), rows

    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    first_part = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradient_of_part, state, first_part)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[4]))
    (batch_stats, correlation, means), rows = jax.lax.scan(
        one_part, (state.batch_stats, state.correlation, zeros), split
    )
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    return means[0], batch_stats, correlation, rows, means[1]
