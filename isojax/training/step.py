"""The training step, a pure function of state and batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from isojax import schedules, spectral
from isojax.data.augment import random_views
from isojax.models import SiameseNetwork
from isojax.predictor import update_correlation
from isojax.training.health import first_not_finite
from isojax.training.method import (
    CLOSED_FORM,
    Prediction,
    closed_form_predictions,
    view_loss,
)
from isojax.training.microbatches import accumulate
from isojax.training.probe import count_labelled, probe_loss, update_probe
from isojax.training.state import TARGET_PARTS, TrainState

Batch = dict[str, Array]
Metrics = dict[str, Array]


def make_train_step(
    network: SiameseNetwork,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    config: ConfigDict,
    *,
    total_steps: int,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the step of a run.

    Args:
      network: the module, whose BatchNorm knows `axis_name` too.
      optimizer: gradient transformation of the parameters.
      learning_rate: the optimiser's schedule, for the log.
      config: of the run.
      total_steps: length of the run, for the target's decay.
      axis_name: mapped axis over which the global batch is spread, if any.

    Returns:
      `step(state, batch) -> (state, metrics)`. A batch has `images` (n, h, w, c) uint8,
      `labels` (n,) int32, negative where there is none, and `indices` (n,) int32;
      metrics are scalars over the global batch.

    Source: Halvagal et al. 2023, appendix D; the order of updates is explained in
    `compute_loss` and `train_step`.
    """
    method = config.method

    def compute_loss(params, probe_weights, state, views, labels, labelled):
        online = network_outputs(params, state.batch_stats, views)
        representations, projections, batch_stats = online
        if method.target == "ema":
            # The target normalises with its own batch's statistics and keeps none.
            _, targets, _ = network_outputs(
                state.target_params, state.batch_stats, views
            )
        else:
            targets = projections
        # C first, so that this step's predictor sees this step's projections.
        correlation = update_correlation(
            state.correlation,
            jnp.concatenate(projections),
            decay=method.correlation_decay ** (1 / config.microbatches),
            axis_name=axis_name,
        )
        predictions, batch_stats = predict(
            params, batch_stats, correlation, projections
        )
        loss = method.loss_scale * sum(
            view_loss(method, z, prediction, target).mean()
            for z, prediction, target in zip(
                projections, predictions, reversed(targets), strict=True
            )
        )
        probe_cross_entropy, probe_accuracy = probe_loss(
            probe_weights,
            jnp.concatenate(representations),
            jnp.tile(labels, 2),
            count=labelled,
        )
        similarity = spectral.cosine_similarity(*projections).mean()
        metrics = {
            "loss": loss,
            "view_similarity": similarity,
            "projections": _finite_or_nan(projections),
            "predictions": _finite_or_nan(predictions),
            "probe_loss": probe_cross_entropy,
            "probe_accuracy": probe_accuracy,
        }
        carried = (batch_stats, correlation, jnp.concatenate(projections))
        return loss + probe_cross_entropy, (carried, metrics)

    @jax.jit  # traced once for all passes
    def network_output(params, batch_stats, images):
        return network.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )

    def network_outputs(params, batch_stats, views):
        representations, projections = [], []
        for images in views:
            (representation, projection), mutated = network_output(
                params, batch_stats, images
            )
            batch_stats = mutated["batch_stats"]
            representations.append(representation)
            projections.append(projection)
        return representations, projections, batch_stats

    def predict(params, batch_stats, correlation, projections):
        if method.predictor == CLOSED_FORM:
            return closed_form_predictions(
                method, correlation, projections
            ), batch_stats
        if method.predictor == "none":
            return [Prediction(z, z) for z in projections], batch_stats
        predictions = []
        for z in projections:
            prediction, mutated = network.apply(
                {"params": params, "batch_stats": batch_stats},
                z,
                train=True,
                method="predict",
                mutable=["batch_stats"],
            )
            batch_stats = mutated["batch_stats"]
            predictions.append(Prediction(prediction, prediction))
        return predictions, batch_stats

    def gradient_of_part(state, part, *, labelled):
        views, labels = part
        gradients, (carried, metrics) = jax.grad(
            compute_loss, argnums=(0, 1), has_aux=True
        )(state.params, state.probe.weights, state, views, labels, labelled)
        return gradients, *carried, metrics

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        views = make_views(
            jax.random.fold_in(state.key, state.step), batch, config=config
        )
        labelled = count_labelled(
            jnp.tile(batch["labels"], 2),
            parts=config.microbatches,
            axis_name=axis_name,
        )
        gradients, batch_stats, correlation, projections, metrics = accumulate(
            partial(gradient_of_part, labelled=labelled),
            state,
            (views, batch["labels"]),
            parts=config.microbatches,
        )
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        param_gradients, probe_gradients = gradients
        updates, opt_state = optimizer.update(
            param_gradients, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        # float32 even with jax_enable_x64, as the parameters are.
        decay = schedules.target_decay(
            state.step.astype(jnp.float32),
            total_steps=total_steps,
            initial=method.target_decay,
        )
        target_params = state.target_params
        if method.target == "ema":
            target_params = optax.incremental_update(
                {part: params[part] for part in TARGET_PARTS}, target_params, 1 - decay
            )
        gradient_norm = optax.tree.norm(param_gradients)
        not_finite = first_not_finite(
            {
                "projections": metrics.pop("projections"),
                "correlation": correlation.sum(),
                "predictions": metrics.pop("predictions"),
                "loss": metrics["loss"],
                # With the updates, which overflow where the rate is too high.
                "gradients": gradient_norm + optax.tree.norm(updates),
            }
        )
        metrics |= {
            "not_finite": not_finite,
            "std": spectral.normalized_std(projections, axis_name=axis_name),
            "gradient_norm": gradient_norm,
            "learning_rate": learning_rate(state.step),
            "target_decay": decay if method.target == "ema" else jnp.zeros(()),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            target_params=target_params,
            opt_state=opt_state,
            correlation=correlation,
            probe=update_probe(state.probe, probe_gradients),
            key=state.key,
        )
        return new_state, metrics

    return train_step


def _finite_or_nan(tree: Any) -> Array:
    """Zero if all numbers are finite, otherwise NaN."""
    is_finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.where(jnp.stack(is_finite).all(), 0.0, jnp.nan)


def make_views(key: Array, batch: Batch, *, config: ConfigDict) -> list[Array]:
    """Two normalised views of every image.

    An image's views depend on `key` and its index alone, not on its place in the batch
    or on the number of devices.

    Args:
      key: random key of the step.
      batch: with `images` (n, h, w, c) uint8 and `indices` (n,).
      config: of the run; sections `augment`, `augment_view2`, whose fields replace
        those of `augment` in the second view, and `data` are read.

    Returns:
      Two float32 arrays (n, h, w, c).
    """
    keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(
        batch["indices"]
    )
    second = ConfigDict(config.augment.to_dict() | config.augment_view2.to_dict())
    return [
        random_views(
            keys[:, i],
            batch["images"],
            config=section,
            mean=config.data.mean,
            std=config.data.std,
        )
        for i, section in enumerate((config.augment, second))
    ]
