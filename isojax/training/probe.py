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
    weights = jnp.zeros((features + 1, classes), jnp.float32)
    return Probe(weights, _OPTIMIZER.init(weights))


def probe_logits(weights: Array, representation: Array) -> Array:
    """Logits (n, classes) of representations (n, features), which get no gradient."""
    x = jax.lax.stop_gradient(representation)
    bias = jnp.broadcast_to(weights[-1], (x.shape[0], weights.shape[1]))
    return x @ weights[:-1] + bias


def count_labelled(labels: Array, *, parts: int, axis_name: str | None) -> Array:
    """Labelled images of a batch, for one of its parts on one device, on average.

    Args:
      labels: shape (n,), negative where an image has none.
      parts: that each device's images are divided into.
      axis_name: mapped axis over which the global batch is spread, if any.

    Returns:
      A float32 scalar.
    """
    count = (labels >= 0).sum().astype(jnp.float32)
    if axis_name is not None:
        count = jax.lax.pmean(count, axis_name)
    return count / parts


def probe_loss(
    weights: Array, representation: Array, labels: Array, *, count: Array
) -> tuple[Array, Array]:
    """Cross-entropy and accuracy, summed over a batch's labelled images, by `count`.

    Args:
      weights: of the probe.
      representation: shape (n, features).
      labels: shape (n,), negative where an image has none.
      count: that the sums are divided by; with that of `count_labelled` their means
        over parts and devices are those over the global batch's labelled images.

    Returns:
      Two scalars, zero where no image has a label.
    """
    logits = probe_logits(weights, representation)
    is_labelled = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.maximum(labels, 0)
    )
    share = is_labelled / jnp.where(count > 0, count, 1).astype(losses.dtype)
    hits = logits.argmax(axis=-1) == labels
    return jnp.sum(share * losses), jnp.sum(share * hits)


def update_probe(probe: Probe, gradients: Array) -> Probe:
    """One step of Adam."""
    updates, opt_state = _OPTIMIZER.update(gradients, probe.opt_state)
    return Probe(optax.apply_updates(probe.weights, updates), opt_state)
