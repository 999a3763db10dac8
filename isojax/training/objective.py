"""The loss of a batch: network, predictor, the method's loss and the online probe."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax import spectral
from isojax.models import SiameseNetwork
from isojax.predictor import update_correlation
from isojax.training.method import PREDICTORS, view_loss
from isojax.training.probe import probe_loss
from isojax.training.state import TrainState
from isojax.training.step_context import Metrics, StepContext

# Maps parameters, running statistics and images to the result of `apply_in_training`.
ApplyInTraining = Callable[[Any, Any, Array], tuple[tuple[Array, Array], Any]]

PROBE_METRICS = ("probe_loss", "probe_accuracy")


class Outputs(NamedTuple):
    """Outputs of the network for several views.

    Attributes:
      representations: one array (n, features) per view.
      projections: one array (n, dim) per view.
      batch_stats: running statistics after all views.
    """

    representations: list[Array]
    projections: list[Array]
    batch_stats: Any


class Averages(NamedTuple):
    """Quantities of a part of a batch that are averaged over parts and devices.

    Attributes:
      metrics: scalars.
      projections: 0, or NaN if a projection is not finite.
      predictions: 0, or NaN if a prediction is not finite.
    """

    metrics: Metrics
    projections: Array
    predictions: Array


class LossDetails(NamedTuple):
    """By-products of `compute_loss`.

    Attributes:
      averages: metrics and checks.
      batch_stats: running statistics after both views.
      correlation: updated correlation of the projections.
      projections: projections of both views, shape (2 n, dim).
    """

    averages: Averages
    batch_stats: Any
    correlation: Array
    projections: Array


def compute_loss(
    params: Any,
    probe_weights: Array,
    *,
    context: StepContext,
    state: TrainState,
    views: list[Array],
    labels: Array,
    labelled: Array,
) -> tuple[Array, LossDetails]:
    """Computes the loss of the method plus that of the online probe.

    The loss is the mean over images, summed over the two orders of the views. The
    correlation is updated first, so that the predictor of a step is built from the
    projections of the same step.

    Args:
      params: online parameters.
      probe_weights: weights of the online probe.
      context: network, optimiser and settings.
      state: state of the run; `params` and `probe` are not read.
      views: both views, (n, h, w, c) each.
      labels: labels of the images, shape (n,).
      labelled: number of labelled images, as `count_labelled` returns it.

    Returns:
      The scalar loss and its by-products.
    """
    network, method = context.network, context.method
    apply = jax.jit(partial(apply_in_training, network))  # traced once
    forward = forward_stacked if context.stacks_views else forward_in_turn
    online = forward(apply, params, state.batch_stats, views)
    targets = online.projections
    if method.has_moving_target:
        # The target normalises by its own batch statistics and discards them.
        targets = forward(
            apply, state.target_params, state.batch_stats, views
        ).projections
    correlation = update_correlation(
        state.correlation,
        jnp.concatenate(online.projections),
        decay=method.correlation_decay ** (1 / context.microbatches),
        axis_name=context.axis_name,
    )
    predict = PREDICTORS[method.predictor]
    variables = {"params": params, "batch_stats": online.batch_stats}
    predictions = predict(method, network, variables, correlation, online.projections)
    first, second = (
        view_loss(method, z, prediction, target).mean()
        for z, prediction, target in zip(
            online.projections, predictions.views, reversed(targets), strict=True
        )
    )
    loss = method.loss_scale * (first + second)
    probe_cross_entropy, probe_accuracy = probe_loss(
        probe_weights,
        jnp.concatenate(online.representations),
        jnp.tile(labels, 2),
        count=labelled,
    )
    z1, z2 = online.projections
    metrics = {
        "loss": loss,
        "view_similarity": spectral.cosine_similarity(z1, z2).mean(),
        **dict(zip(PROBE_METRICS, (probe_cross_entropy, probe_accuracy), strict=True)),
    }
    details = LossDetails(
        averages=Averages(
            metrics,
            projections=_zero_if_finite(online.projections),
            predictions=_zero_if_finite(predictions.views),
        ),
        batch_stats=predictions.batch_stats,
        correlation=correlation,
        projections=jnp.concatenate(online.projections),
    )
    return loss + probe_cross_entropy, details


def forward_in_turn(
    apply: ApplyInTraining, params: Any, batch_stats: Any, views: list[Array]
) -> Outputs:
    """Applies backbone and projector to one view after the other.

    On a CPU this is faster than `forward_stacked`.

    Args:
      apply: `apply_in_training` with its network bound, compiled or not.
      params: parameters of backbone and projector.
      batch_stats: running statistics, updated once per view.
      views: one array (n, h, w, c) per view.

    Returns:
      The outputs of all views.
    """
    representations, projections = [], []
    for images in views:
        (representation, projection), batch_stats = apply(params, batch_stats, images)
        representations.append(representation)
        projections.append(projection)
    return Outputs(representations, projections, batch_stats)


def forward_stacked(
    apply: ApplyInTraining, params: Any, batch_stats: Any, views: list[Array]
) -> Outputs:
    """Applies backbone and projector to all views at once.

    The results are those of `forward_in_turn`. The program has half as many operations
    and collectives, each twice as large.

    Args:
      apply: as for `forward_in_turn`, of a network whose batch statistics are those of
        `isojax.models.BatchNorm`.
      params: parameters of backbone and projector.
      batch_stats: running statistics, updated once per view.
      views: one array (n, h, w, c) per view.

    Returns:
      The outputs of all views.
    """
    apply_to_views = jax.vmap(apply, in_axes=(None, None, 0), out_axes=(0, None))
    (representations, projections), batch_stats = apply_to_views(
        params, batch_stats, jnp.stack(views)
    )
    return Outputs(list(representations), list(projections), batch_stats)


def apply_in_training(
    network: SiameseNetwork, params: Any, batch_stats: Any, images: Array
) -> tuple[tuple[Array, Array], Any]:
    """Applies backbone and projector in training mode.

    Args:
      network: the module.
      params: parameters of backbone and projector.
      batch_stats: running statistics.
      images: one view, shape (n, h, w, c).

    Returns:
      Representation (n, features) and projection (n, dim), and the updated running
      statistics.
    """
    outputs, mutated = network.apply(
        {"params": params, "batch_stats": batch_stats},
        images,
        train=True,
        mutable=["batch_stats"],
    )
    return outputs, mutated["batch_stats"]


def _zero_if_finite(tree: Any) -> Array:
    """Returns 0 if all numbers of a tree are finite, otherwise NaN."""
    is_finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.where(jnp.stack(is_finite).all(), 0.0, jnp.nan)
