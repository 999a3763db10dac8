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
    weights: Array, representation: Array, labels: Array
) -> tuple[Array, Array]:
    """Mean cross-entropy and accuracy of a batch, both scalars."""
    logits = probe_logits(weights, representation)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (logits.argmax(axis=-1) == labels).mean()


def update_probe(probe: Probe, gradients: Array) -> Probe:
    """One step of Adam."""
    updates, opt_state = _OPTIMIZER.update(gradients, probe.opt_state)
    return Probe(optax.apply_updates(probe.weights, updates), opt_state)
