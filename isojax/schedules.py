"""Learning rate and target decay, pure functions of the training step."""

from numbers import Real

import jax.numpy as jnp
import optax
from jax import Array


def warmup_cosine(
    *, peak: float, warmup_steps: int, total_steps: int, init: float = 0.0
) -> optax.Schedule:
    """Linear warmup to the peak, then cosine decay to zero.

    Args:
      peak: learning rate at the end of the warmup.
      warmup_steps: length of the warmup; 0 starts at the peak.
      total_steps: length of the run, warmup included; zero from there on.
      init: learning rate at step 0 of a warmup.

    Returns:
      A schedule, a function of the step.

    Raises:
      ValueError: if the warmup is negative or leaves no step for the decay.

    Source: Halvagal et al. 2023, appendix D.
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} is negative; choose 0 for none")
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves no step of total_steps={total_steps} "
            "for the decay; shorten the warmup or lengthen the run"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=init,
        peak_value=peak,
        warmup_steps=warmup_steps,
        decay_steps=total_steps,
    )


def target_decay(step: Array, *, total_steps: int, initial: float) -> Array:
    """Decay tau of the target network's moving average at one step.

    tau(k) = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2, rising from tau_0 to 1.

    Args:
      step: k, counted from 0; beyond the run's end tau stays 1. Any shape.
      total_steps: K, the length of the run.
      initial: tau_0, the fraction of the old target kept at step 0.

    Returns:
      tau, in the shape of `step`.

    Raises:
      ValueError: if `total_steps` is not positive or `initial` is outside [0, 1].

    Source: Grill et al. 2020, "Bootstrap your own latent", section 3; Halvagal et al.
    2023, appendix D.
    """
    if isinstance(total_steps, Real) and not total_steps > 0:
        raise ValueError(
            f"total_steps={total_steps} is not a run's length; choose at least 1"
        )
    if isinstance(initial, Real) and not 0 <= initial <= 1:
        raise ValueError(
            f"initial={initial} is not the fraction of the old target kept; "
            "choose it in [0, 1], such as 0.996"
        )
    progress = jnp.minimum(step, total_steps) / total_steps
    return 1 - (1 - initial) * (jnp.cos(jnp.pi * progress) + 1) / 2
