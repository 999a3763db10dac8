"""Schedules of the learning rate and of the target network's decay."""

from numbers import Real

import jax.numpy as jnp
import optax
from jax import Array


def warmup_cosine(
    *, peak: float, warmup_steps: int, total_steps: int, init: float = 0.0
) -> optax.Schedule:
    """Creates a schedule with a linear warmup followed by cosine decay to zero.

    Args:
      peak: learning rate at the end of the warmup.
      warmup_steps: number of warmup steps; 0 starts at the peak.
      total_steps: number of steps including the warmup; the learning rate is zero from
        this step on.
      init: learning rate at step 0 of the warmup.

    Returns:
      A function from the step to the learning rate.

    Raises:
      ValueError: if the warmup is negative or leaves no step for the decay.

    Example:
      >>> schedule = warmup_cosine(peak=0.5, warmup_steps=2, total_steps=6)
      >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 4, 6)]
      [0.0, 0.25, 0.5, 0.25, 0.0]

    Source: Halvagal et al. 2023, appendix D.
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} is negative; choose 0 for none")
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves none of total_steps={total_steps} for "
            "the decay; shorten the warmup or lengthen the run"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=init,
        peak_value=peak,
        warmup_steps=warmup_steps,
        decay_steps=total_steps,
    )


def target_decay(step: Array, *, total_steps: int, initial: float) -> Array:
    """Computes the decay tau of the target network's moving average.

    tau(k) = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2 increases from tau_0 to 1.

    Args:
      step: training step k, counted from 0, any shape. After step K, tau stays 1.
      total_steps: number K of training steps.
      initial: tau_0, the fraction of the old target that is kept at step 0.

    Returns:
      tau, in the shape of `step`.

    Raises:
      ValueError: if `total_steps` is not positive or `initial` is outside [0, 1].

    Example:
      >>> steps = jnp.array([0, 50, 100])
      >>> target_decay(steps, total_steps=100, initial=0.5).tolist()
      [0.5, 0.75, 1.0]

    Source: Grill et al. 2020, "Bootstrap your own latent", section 3; Halvagal et al.
    2023, appendix D.
    """
    if isinstance(total_steps, Real) and not total_steps > 0:
        raise ValueError(
            f"total_steps={total_steps} is not positive; choose at least 1"
        )
    if isinstance(initial, Real) and not 0 <= initial <= 1:
        raise ValueError(
            f"initial={initial} is not a fraction of the old target; "
            "choose a value in [0, 1], such as 0.996"
        )
    progress = jnp.minimum(step, total_steps) / total_steps
    return 1 - (1 - initial) * (jnp.cos(jnp.pi * progress) + 1) / 2
