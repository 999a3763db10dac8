"""The online probe: a linear classifier trained together with the encoder.

Its gradient does not reach the encoder.
"""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

_OPTIMIZER = optax.adam(1e-3)


class Probe(flax.struct.PyTreeNode):
    """State of the online probe.

    Attributes:
      weights: shape (features + 1, classes); the last row is the bias.
      opt_state: state of the probe's optimiser.
    """

    weights: Array
    opt_state: optax.OptState


def init_probe(features: int, classes: int) -> Probe:
    """Returns a probe that assigns the same probability to every class."""
    weights = jnp.zeros((features + 1, classes), jnp.float32)
    return Probe(weights, _OPTIMIZER.init(weights))


def probe_logits(weights: Array, representation: Array) -> Array:
    """Logits (n, classes) of representations (n, features); stops their gradient."""
    x = jax.lax.stop_gradient(representation)
    bias = jnp.broadcast_to(weights[-1], (x.shape[0], weights.shape[1]))
    return jnp.matmul(x, weights[:-1], precision="highest") + bias


def count_labelled(labels: Array, *, parts: int, axis_name: str | None) -> Array:
    """Mean number of labelled images per part of a batch on one device.

    Args:
      labels: shape (n,), negative for images without a label.
      parts: number of parts that each device's images are divided into.
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
    """Cross-entropy and accuracy, summed over labelled images and divided by `count`.

    Args:
      weights: weights of the probe, shape (features + 1, classes).
      representation: shape (n, features).
      labels: shape (n,), negative for images without a label.
      count: divisor of the sums. With the result of `count_labelled`, the means over
        parts and devices are the means over the labelled images of the global batch.

    Returns:
      Two scalars, zero if no image has a label.
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
    """Applies one step of Adam."""
    updates, opt_state = _OPTIMIZER.update(gradients, probe.opt_state)
    return Probe(optax.apply_updates(probe.weights, updates), opt_state)
