"""The training step, a pure function of state and batch.

A batch of images becomes two views (`make_views`), representations and projections
(`forward`), predictions and a loss (`compute_loss`), gradients (`part_result`, averaged
by `microbatches.accumulate`) and a new state (`apply_update`). `train_step` connects
them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from isojax import schedules, spectral
from isojax.data.augment import random_views
from isojax.models import SiameseNetwork
from isojax.predictor import update_correlation
from isojax.training.health import first_not_finite
from isojax.training.method import PREDICTORS, Method, view_loss
from isojax.training.microbatches import PartResult, accumulate
from isojax.training.probe import count_labelled, probe_loss, update_probe
from isojax.training.settings import ViewPair
from isojax.training.state import TARGET_PARTS, TrainState

Batch = dict[str, Array]
Metrics = dict[str, Array]
# Maps parameters, running statistics and images to the result of `apply_in_training`.
ApplyInTraining = Callable[[Any, Any, Array], tuple[tuple[Array, Array], Any]]


class StepContext(NamedTuple):
    """What a step needs in addition to its state and batch.

    Attributes:
      network: the module, whose BatchNorm has the same `axis_name`.
      optimizer: gradient transformation of the parameters.
      learning_rate: schedule of the optimiser, for the metrics.
      method: settings of the method.
      views: settings of the two views.
      total_steps: length of the run, for the schedule of the target.
      microbatches: number of parts that a device's batch is processed in.
      axis_name: mapped axis over which the global batch is spread, if any.
    """

    network: SiameseNetwork
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    method: Method
    views: ViewPair
    total_steps: int
    microbatches: int = 1
    axis_name: str | None = None


class StepReport(NamedTuple):
    """What a step reports in addition to its new state.

    Attributes:
      metrics: scalars over the global batch.
      not_finite: which quantity became non-finite first, as `first_not_finite` counts.
    """

    metrics: Metrics
    not_finite: Array


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


class Gradients(NamedTuple):
    """Gradients of the loss with respect to the parameters and the probe's weights."""

    params: Any
    probe: Array


class Update(NamedTuple):
    """Result of `apply_update`.

    Attributes:
      state: the state with new parameters, target, optimiser state, probe and step.
      norm: norm of the update of the parameters.
    """

    state: TrainState
    norm: Array


def train_step(
    context: StepContext, state: TrainState, batch: Batch
) -> tuple[TrainState, StepReport]:
    """Trains one step.

    Args:
      context: network, optimiser and settings.
      state: state of the run.
      batch: `images` (n, h, w, c) uint8, `labels` (n,) int32, negative for images
        without a label, and `indices` (n,) int32, the images' numbers in the data set.

    Returns:
      The new state and the step's report.

    Source: Halvagal et al. 2023, appendix D.
    """
    axis_name = context.axis_name
    key = jax.random.fold_in(state.key, state.step)
    views = make_views(key, batch, views=context.views)
    labelled = count_labelled(
        jnp.tile(batch["labels"], 2), parts=context.microbatches, axis_name=axis_name
    )
    result = accumulate(
        partial(part_result, context, labelled=labelled),
        state,
        (views, batch["labels"]),
        parts=context.microbatches,
    )
    gradients, averages = result.gradients, result.averages
    if axis_name is not None:
        gradients, averages = jax.lax.pmean((gradients, averages), axis_name)
    update = apply_update(context, state, gradients)
    gradient_norm = optax.tree.norm(gradients.params)
    not_finite = first_not_finite(
        {
            "projections": averages.projections,
            "correlation": result.correlation.sum(),
            "predictions": averages.predictions,
            "loss": averages.metrics["loss"],
            # Includes the update, which overflows if the learning rate is too high.
            "gradients": gradient_norm + update.norm,
        }
    )
    metrics = averages.metrics | {
        "std": spectral.normalized_std(result.rows, axis_name=axis_name),
        "gradient_norm": gradient_norm,
        "learning_rate": jnp.asarray(context.learning_rate(state.step)),
        "target_decay": target_decay(context, state.step),
    }
    new_state = update.state.replace(
        batch_stats=result.batch_stats, correlation=result.correlation
    )
    return new_state, StepReport(metrics, not_finite)


def make_views(key: Array, batch: Batch, *, views: ViewPair) -> list[Array]:
    """Makes two normalised views of every image.

    The views of an image depend only on `key` and the image's index, not on its place
    in the batch or on the number of devices.

    Args:
      key: random key of the step.
      batch: `images` (n, h, w, c) uint8 and `indices` (n,).
      views: settings of the two views.

    Returns:
      Two float32 arrays (n, h, w, c).
    """
    keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(
        batch["indices"]
    )
    return [
        random_views(
            keys[:, i], batch["images"], views=view, mean=views.mean, std=views.std
        )
        for i, view in enumerate((views.first, views.second))
    ]


def part_result(
    context: StepContext,
    state: TrainState,
    part: tuple[list[Array], Array],
    *,
    labelled: Array,
) -> PartResult:
    """Computes loss and gradients of a batch or of a part of it.

    Args:
      context: network, optimiser and settings.
      state: state of the run.
      part: both views (n, h, w, c) of the images, and their labels (n,).
      labelled: number of labelled images, as `count_labelled` returns it.

    Returns:
      Gradients, averages, running statistics, correlation and projections.
    """
    views, labels = part
    loss = partial(
        compute_loss,
        context=context,
        state=state,
        views=views,
        labels=labels,
        labelled=labelled,
    )
    gradients, details = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        state.params, state.probe.weights
    )
    return PartResult(
        gradients=Gradients(*gradients),
        averages=details.averages,
        batch_stats=details.batch_stats,
        correlation=details.correlation,
        rows=details.projections,
    )


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
    apply = jax.jit(partial(apply_in_training, network))  # traced once for all views
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
        "probe_loss": probe_cross_entropy,
        "probe_accuracy": probe_accuracy,
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


def forward(
    apply: ApplyInTraining, params: Any, batch_stats: Any, views: list[Array]
) -> Outputs:
    """Applies backbone and projector to one view after the other.

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


def apply_update(
    context: StepContext, state: TrainState, gradients: Gradients
) -> Update:
    """Updates parameters, then the moving-average target, and the online probe.

    Args:
      context: network, optimiser and settings.
      state: state of the run.
      gradients: gradients over the global batch.

    Returns:
      The new state, whose `batch_stats` and `correlation` are unchanged, and the norm
      of the update.
    """
    updates, opt_state = context.optimizer.update(
        gradients.params, state.opt_state, state.params
    )
    params: Any = optax.apply_updates(state.params, updates)
    target_params = state.target_params
    if context.method.has_moving_target:
        target_params = optax.incremental_update(
            {part: params[part] for part in TARGET_PARTS},
            target_params,
            1 - target_decay(context, state.step),
        )
    new_state = state.replace(
        step=state.step + 1,
        params=params,
        target_params=target_params,
        opt_state=opt_state,
        probe=update_probe(state.probe, gradients.probe),
    )
    return Update(new_state, optax.tree.norm(updates))


def target_decay(context: StepContext, step: Array) -> Array:
    """Returns the fraction of the target kept at a step; 0 without a moving average."""
    if not context.method.has_moving_target:
        return jnp.zeros(())
    # float32 even with jax_enable_x64, like the parameters.
    return schedules.target_decay(
        step.astype(jnp.float32),
        total_steps=context.total_steps,
        initial=context.method.target_decay,
    )


def _zero_if_finite(tree: Any) -> Array:
    """Returns 0 if all numbers of a tree are finite, otherwise NaN."""
    is_finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.where(jnp.stack(is_finite).all(), 0.0, jnp.nan)
