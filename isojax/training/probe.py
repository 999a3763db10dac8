"""A linear classifier trained beside the encoder, whose gradient never reaches it."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

_OPTIMIZER = optax.adam(1e-3)


@flax.struct.dataclass
class Probe:
    """Weights (features + 1, classes), the bias last, and the optimiser's state."""

    weights: Array
    opt_state: optax.OptState


def init_probe(features: int, classes: int) -> Probe:
    """A probe that gives every class the same probability."""
    weights = jnp.zeros((features + 1, classes))
    return Probe(weights, _OPTIMIZER.init(weights))


def probe_logits(weights: Array, representation: Array) -> Array:
    """Logits (n, classes) of representations (n, features), which get no gradient."""
    x = jax.lax.stop_gradient(representation)
    bias = jnp.broadcast_to(weights[-1], (x.shape[0], weights.shape[1]))
    return x @ weights[:-1] + bias


def probe_loss(
    weights: Array,
    representation: Array,
    labels: Array,
    *,
    axis_name: str | None = None,
) -> tuple[Array, Array]:
    """Mean cross-entropy and accuracy of the labelled images of a batch.

    Args:
      weights: of the probe.
      representation: shape (n, features).
      labels: shape (n,), -1 where there is none.
      axis_name: mapped axis over which the global batch is spread, if any.

    Returns:
      Two scalars, whose means over the devices are those of the global batch; zero
      where no image of it is labelled.
    """
    logits = probe_logits(weights, representation)
    labelled = labels >= 0
    part = labelled.mean()
    if axis_name is not None:
        part = jax.lax.pmean(part, axis_name)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.maximum(labels, 0)
    )
    hits = logits.argmax(axis=-1) == labels
    weight = labelled / jnp.where(part > 0, part, 1.0)
    return (weight * losses).mean(), (weight * hits).mean()


def update_probe(probe: Probe, gradients: Array) -> Probe:
    """One step of Adam."""
    updates, opt_state = _OPTIMIZER.update(gradients, probe.opt_state)
    return Probe(optax.apply_updates(probe.weights, updates), opt_state)
