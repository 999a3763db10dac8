"""Training one-layer networks on the paper's losses, to watch their eigenvalues.

The network is z = act(W x), its inputs x ~ N(0, I_N) with two views x + sigma_i xi_i.
Each step draws new samples, builds the closed-form predictor W_P = C^alpha, never
differentiated, and moves the weights down the gradient of the mean loss:
W <- W - learning_rate (grad + weight_decay W).

A linear network's Euclidean losses are quadratic in the views. Their mean over the
samples is their sum over the columns of a factor of the samples' second moment, drawn
whole: exact in law for any number of samples, and exact for infinitely many.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.arguments import (
    check_choice,
    check_count,
    check_not_negative,
    check_positive,
    check_view_noise,
)
from isojax.dynamics.network_step import (
    ACTIVATIONS,
    EUCLIDEAN_LOSSES,
    LOSSES,
    PREDICTORS,
    update_weights,
)
from isojax.dynamics.views import draw_factor, draw_samples, split_evenly

# Steps whose factors are drawn at once, which costs little more than drawing one.
_BLOCK = 128


class NetworkTrajectory(NamedTuple):
    """A network's course. Row t is the state before update t, so row 0 is the start.

    Attributes:
      eigenvalues: of the predictor in step t, ascending, shape (steps, M).
      weights: W in step t, shape (steps, M, N).
    """

    eigenvalues: Array
    weights: Array


def simulate_network(
    name: str,
    weights: Array,
    *,
    steps: int,
    learning_rate: float,
    alpha: float = 1.0,
    view_noise: Sequence[float] = (0.0, 0.1),
    activation: str = "linear",
    samples: int | None = 50_000,
    weight_decay: float = 0.0,
    predictor_from: str = "weights",
    key: Array | None,
) -> NetworkTrajectory:
    """Trains a one-layer network by full-batch gradient steps on fresh samples.

    Compiled once for each loss, shape and choice of steps, samples, activation and
    predictor. All other arguments may be traced.

    Args:
      name: of the loss: "euclidean" or "cosine", alone, after "iso_", or before
        "_no_stop_gradient" or "_no_predictor", where p = z1.
      weights: W at the start, shape (M, N); computed with in float32 at least.
      steps: number of rows returned.
      learning_rate: of the steps; row t is at the time t * learning_rate of the flow.
      alpha: exponent of the predictor.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise on the views.
      activation: "linear" or "relu".
      samples: number of samples a step, or None for the exact expectation, which a
        linear network with a Euclidean loss has.
      weight_decay: kappa of the penalty kappa/2 |W|^2.
      predictor_from: what C is: "weights" for W W^T, as in the authors' notebook, or
        "activations" for the mean of z z^T over both views of the step's samples. The
        losses without predictor only record its eigenvalues.
      key: PRNG key; step t draws with `fold_in(key, t)`. Any, also None, if `samples`
        is None, for nothing is drawn.

    Returns:
      The eigenvalues and weights in every step, in the dtype of `weights`.

    Raises:
      ValueError: if an argument is not one of those allowed, or `samples` is None where
        the expectation is not known exactly.
      FloatingPointError: if training diverges. Within `jax.jit` and the like, where
        nothing can be raised, the eigenvalues are NaN from that step on.

    Source: Halvagal et al. 2023, Fig. 2, 4 and 5.
    """
    weights = jnp.asarray(weights)
    check_choice("name", name, LOSSES)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("predictor_from", predictor_from, PREDICTORS)
    check_count("steps", steps)
    check_positive("learning_rate", learning_rate)
    check_positive("alpha", alpha)
    check_not_negative("weight_decay", weight_decay)
    _check_weights(weights)
    dtype = jnp.promote_types(weights.dtype, jnp.float32)
    check_view_noise(view_noise)
    if samples is not None:
        check_count("samples", samples)
    elif not _is_quadratic(name, activation):
        raise ValueError(
            f"samples=None: {name} with {activation} activation has no exact step; "
            "choose a number of samples, or the linear activation with one of "
            f"{', '.join(EUCLIDEAN_LOSSES)}"
        )
    numbers = {
        "learning_rate": jnp.asarray(learning_rate, dtype),
        "alpha": jnp.asarray(alpha, dtype),
        "view_noise": jnp.asarray(view_noise, dtype),
        "weight_decay": jnp.asarray(weight_decay, dtype),
    }
    trajectory = _simulate(
        weights.astype(dtype),
        jax.random.key(0) if samples is None else key,
        numbers,
        steps=steps,
        samples=samples,
        name=name,
        activation=activation,
        predictor_from=predictor_from,
    )
    _check_finite(trajectory, name, learning_rate)
    return trajectory


@partial(
    jax.jit,
    static_argnames=("steps", "samples", "name", "activation", "predictor_from"),
)
@jax.default_matmul_precision("highest")
def _simulate(
    weights: Array,
    key: Array,
    numbers: dict[str, Array],
    *,
    steps: int,
    samples: int | None,
    name: str,
    activation: str,
    predictor_from: str,
) -> NetworkTrajectory:
    is_quadratic = _is_quadratic(name, activation)
    draw = partial(
        draw_factor if is_quadratic else draw_samples,
        inputs=weights.shape[1],
        samples=samples,
        dtype=weights.dtype,
    )

    def update(
        weights: Array, drawn: tuple[Array, Array]
    ) -> tuple[Array, NetworkTrajectory]:
        updated, eigenvalues = update_weights(
            weights,
            *drawn,
            name=name,
            activation=activation,
            predictor_from=predictor_from,
            **numbers,
        )
        return updated, NetworkTrajectory(eigenvalues, weights)

    def update_block(weights: Array, block: Array) -> tuple[Array, NetworkTrajectory]:
        keys = jax.vmap(partial(jax.random.fold_in, key))(block)
        return jax.lax.scan(update, weights, jax.vmap(draw)(keys))

    blocks, size = split_evenly(steps, _BLOCK if is_quadratic else 1)
    steps_of_blocks = jnp.arange(blocks * size).reshape(blocks, size)
    _, trajectory = jax.lax.scan(update_block, weights, steps_of_blocks)
    return jax.tree.map(
        lambda rows: rows.reshape(-1, *rows.shape[2:])[:steps], trajectory
    )


def _is_quadratic(name: str, activation: str) -> bool:
    """Whether the loss depends on the samples through their second moment only."""
    return activation == "linear" and name in EUCLIDEAN_LOSSES


def _check_weights(weights: Array) -> None:
    if weights.ndim != 2 or weights.size == 0:
        raise ValueError(
            f"weights of shape {weights.shape} are not a matrix (outputs, inputs)"
        )
    if jnp.issubdtype(weights.dtype, jnp.complexfloating):
        raise ValueError(f"weights are {weights.dtype}; choose real numbers")
    # NumPy, as within a trace JAX's functions turn even known values into unknown ones.
    if not isinstance(weights, jax.core.Tracer) and not np.isfinite(weights).all():
        raise ValueError("weights hold a NaN or infinity; choose finite numbers")


def _check_finite(
    trajectory: NetworkTrajectory, name: str, learning_rate: float
) -> None:
    if isinstance(trajectory.weights, jax.core.Tracer):
        return
    is_finite = jnp.isfinite(trajectory.eigenvalues).all(axis=1)
    is_finite &= jnp.isfinite(trajectory.weights).all(axis=(1, 2))
    if not is_finite.all():
        raise FloatingPointError(
            f"{name} diverges: eigenvalues or weights are not finite at step "
            f"{int(is_finite.argmin())}; choose a learning_rate smaller than "
            f"{learning_rate}"
        )
