"""The training step, a pure function of state and batch.

A batch of images becomes two views (`make_views`), representations, projections,
predictions and a loss (`objective.compute_loss`), gradients (`part_result`, averaged by
`microbatches.accumulate`) and a new state (`apply_update`). `train_step` connects them.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from isojax import schedules, spectral
from isojax.data.augment import random_views
from isojax.training.health import first_not_finite
from isojax.training.microbatches import PartResult, accumulate
from isojax.training.objective import compute_loss
from isojax.training.probe import count_labelled, update_probe
from isojax.training.settings import ViewPair
from isojax.training.state import TARGET_PARTS, TrainState
from isojax.training.step_context import Batch, Metrics, StepContext


class StepReport(NamedTuple):
    """What a step reports in addition to its new state.

    Attributes:
      metrics: scalars over the global batch.
      not_finite: which quantity became non-finite first, as `first_not_finite` counts.
    """

    metrics: Metrics
    not_finite: Array


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
      batch: `images` (n, h, w, c) or, with a crop for each view, `crops`
        (n, 2, h, w, c), uint8; `labels` (n,) int32, negative for images without a
        label; and `indices` (n,) int32, the images' numbers in the data set.

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
      batch: `images` (n, h, w, c) or `crops` (n, 2, h, w, c), uint8, and `indices`
        (n,).
      views: settings of the two views.

    Returns:
      Two float32 arrays (n, h, w, c).
    """
    keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(
        batch["indices"]
    )
    return [
        random_views(
            keys[:, i],
            batch["crops"][:, i] if "crops" in batch else batch["images"],
            views=view,
            mean=views.mean,
            std=views.std,
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
