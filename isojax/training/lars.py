"""LARS with a trust ratio that may be clipped, as in self-supervised recipes."""

import jax
import jax.numpy as jnp
import optax
from jax import Array


def scale_by_trust_ratio(
    learning_rate: optax.Schedule,
    *,
    trust_coefficient: float,
    weight_decay: float,
    clip: bool = True,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """Decays weights and scales the update of each array by its trust ratio.

    The gradient g of parameter p becomes min(r / rate, 1) (g + decay p) with the ratio

      r = trust_coefficient |p| / (|g| + decay |p| + epsilon),

    so that after multiplication by the learning rate the step size is the smaller of r
    and the rate. Without clipping it becomes r (g + decay p), and the step size is r
    times the rate. Arrays with one axis (biases, BatchNorm) and arrays with zero p or g
    keep their gradient and are not decayed. `optax.lars` does not clip, and divides by
    the norm of the sum instead of the sum of norms.

    Args:
      learning_rate: schedule of the learning rate that the result is multiplied by.
      trust_coefficient: size of a step relative to the parameter.
      weight_decay: coefficient of the parameter added to its gradient.
      clip: whether the step size is at most the rate.
      epsilon: constant added to the denominator.

    Returns:
      The gradient transformation; its state counts the steps.

    Source: You et al. 2017, "Large batch training of convolutional networks"; clipping
    and exclusions as in the official code of Halvagal et al. 2023.
    """

    def init(params: optax.Params) -> optax.OptState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
        rate = learning_rate(state.count)

        def scale(g: Array, p: Array) -> Array:
            if p.ndim == 1:
                return g
            p_norm, g_norm = jnp.linalg.norm(p.ravel()), jnp.linalg.norm(g.ravel())
            ratio = trust_coefficient * p_norm
            ratio = ratio / (g_norm + weight_decay * p_norm + epsilon)
            if clip:
                # Avoids a division by the zero rate at the start of the warmup.
                divisor = jnp.where(rate > 0, rate, 1)
                ratio = jnp.where(ratio < rate, ratio / divisor, 1)
            is_adapted = (p_norm > 0) & (g_norm > 0)
            adapted = jnp.where(is_adapted, ratio * (g + weight_decay * p), g)
            return adapted.astype(g.dtype)  # the rate is float64 with jax_enable_x64

        updates = jax.tree.map(scale, updates, params)
        return updates, optax.ScaleByScheduleState(count=state.count + 1)

    return optax.GradientTransformation(init, update)
