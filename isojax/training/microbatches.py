"""Accumulates the gradient of a batch that does not fit in memory, part by part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.training.state import TrainState


class PartResult(NamedTuple):
    """What a batch, or a part of it, contributes to a step.

    Attributes:
      gradients: gradients of the loss. Averaged over parts.
      averages: other means over the images, such as metrics. Averaged over parts.
      batch_stats: running statistics of the network after the part.
      correlation: correlation of the projections after the part.
      rows: arrays (n, ...) with one row per image. Concatenated over parts.
    """

    gradients: Any
    averages: Any
    batch_stats: Any
    correlation: Array
    rows: Any


PartFunction = Callable[[TrainState, Any], PartResult]


def accumulate(
    function: PartFunction, state: TrainState, batch: Any, *, parts: int
) -> PartResult:
    """Processes the parts of a batch one after the other, with memory for one.

    The loss is a mean over images, so the mean of the parts' gradients is the gradient
    of the whole batch, as far as an image's loss depends on that image alone. Two
    quantities depend on several images and see one part instead of the batch:

    BatchNorm normalises each part by the statistics of that part (over all devices), as
    if the batch were that small. Running statistics are updated once per part. Where
    this matters, use `config.remat` instead, which keeps the statistics of the batch.

    The correlation is updated once per part. The caller uses the `parts`-th root of its
    decay, so that a step forgets as much as with a whole batch. A part's predictor is
    built from the correlation up to and including this part.

    Args:
      function: maps a state, whose `batch_stats` and `correlation` are those after the
        previous part, and a part of `batch` to its `PartResult`.
      state: state of the run.
      batch: arrays (n, ...), with n divisible by `parts`.
      parts: number of parts.

    Returns:
      The result of the whole batch.
    """
    if parts == 1:
        return function(state, batch)

    def one_part(carry: tuple, part: Any) -> tuple[tuple, Any]:
        batch_stats, correlation, means = carry
        result = function(
            state.replace(batch_stats=batch_stats, correlation=correlation), part
        )
        means = jax.tree.map(
            lambda mean, value: mean + value / parts,
            means,
            (result.gradients, result.averages),
        )
        return (result.batch_stats, result.correlation, means), result.rows

    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    first_part = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(function, state, first_part)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), (shapes.gradients, shapes.averages)
    )
    (batch_stats, correlation, (gradients, averages)), rows = jax.lax.scan(
        one_part, (state.batch_stats, state.correlation, zeros), split
    )
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    return PartResult(gradients, averages, batch_stats, correlation, rows)
