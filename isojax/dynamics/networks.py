"""Trains one-layer networks on the paper's losses and records their eigenvalues.

The network is z = act(W x) with Gaussian inputs x, uncorrelated unless a covariance is
given, and two views x + sigma_i xi_i, where xi_i has the covariance of the inputs.
Each step draws new samples, computes the closed-form predictor W_P = C^alpha, which is
not differentiated, and updates the weights by the gradient of the mean loss:
W <- W - learning_rate (grad + weight_decay W).

The Euclidean losses of a linear network are quadratic in the views. Their mean over the
samples equals their sum over the columns of a factor of the samples' second moment. The
factor is drawn directly. The result has the exact distribution for any number of
samples, and is the exact expectation for infinitely many.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.dynamics.arguments import (
    check_choice,
    check_count,
    check_covariance,
    check_not_negative,
    check_positive,
    check_view_noise,
    check_weights,
)
from isojax.dynamics.network_step import (
    ACTIVATIONS,
    EUCLIDEAN_LOSSES,
    LOSSES,
    PREDICTORS,
    update_weights,
)
from isojax.dynamics.views import (
    draw_factor,
    draw_samples,
    expected_factor,
    split_evenly,
)
from isojax.dynamics.wishart import sample_diagonal

# Number of steps whose factors are drawn together, which costs little more than
# drawing one.
_BLOCK = 128


class NetworkTrajectory(NamedTuple):
    """States of a network during training. Row t is the state before update t.

    Attributes:
      eigenvalues: eigenvalues of the predictor in step t, ascending, shape (steps, M).
      weights: weights W in step t, shape (steps, M, N).
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
    input_covariance: Array | None = None,
    key: Array | None,
) -> NetworkTrajectory:
    """Trains a one-layer network with full-batch gradient steps on new samples.

    Compiled once for each shape of `weights` and each choice of `name`, `steps`,
    `samples`, `activation` and `predictor_from`. All other arguments can be traced.

    Args:
      name: name of the loss: "euclidean", "cosine", either with the prefix "iso_", or
        either with the suffix "_no_stop_gradient" or "_no_predictor" (p = z1).
      weights: initial weights W, shape (M, N); converted to float32 if narrower.
      steps: number of rows returned.
      learning_rate: learning rate; row t corresponds to the time t * learning_rate of
        the flow.
      alpha: exponent of the predictor.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views.
      activation: "linear" or "relu".
      samples: number of samples per step, or None for the exact expectation, which is
        available for a linear network with a Euclidean loss.
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2.
      predictor_from: definition of C: "weights" for W input_covariance W^T, with the
        identity as in the authors' notebook, or "activations" for the mean of z z^T
        over both views of the step's samples.
        Under the losses without predictor it only affects the eigenvalues returned.
      input_covariance: covariance of the inputs, symmetric and positive definite,
        shape (N, N); None for the identity.
      key: PRNG key; step t uses `fold_in(key, t)`. Ignored, and can be None, if
        `samples` is None.

    Returns:
      The eigenvalues and weights in every step, in the dtype of `weights`.

    Raises:
      ValueError: if an argument is invalid, or `samples` is None where the exact
        expectation is not available.
      FloatingPointError: if training diverges. Under a transformation, where no error
        can be raised, the eigenvalues are NaN from that step on.

    Example:
      >>> trajectory = simulate_network(
      ...     "iso_euclidean", 0.5 * jnp.eye(2), steps=3, learning_rate=0.1,
      ...     view_noise=(0.0, 0.0), samples=None, key=None,
      ... )
      >>> [round(float(lam[0]), 3) for lam in trajectory.eigenvalues]
      [0.25, 0.289, 0.331]

    Source: Halvagal et al. 2023, Fig. 2, 4 and 5.
    """
    check_choice("name", name, LOSSES)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("predictor_from", predictor_from, PREDICTORS)
    check_count("steps", steps)
    check_positive("learning_rate", learning_rate)
    check_positive("alpha", alpha)
    check_not_negative("weight_decay", weight_decay)
    weights = check_weights(weights)
    dtype = jnp.promote_types(weights.dtype, jnp.float32)
    check_view_noise(view_noise)
    if samples is not None:
        check_count("samples", samples)
        if key is None:
            raise ValueError("key=None needs samples=None; choose jax.random.key(0)")
    elif not _is_quadratic(name, activation):
        raise ValueError(
            f"samples=None is not supported for name={name!r} and "
            f"activation={activation!r}; choose a number of samples, or "
            f"activation='linear' and one of {', '.join(EUCLIDEAN_LOSSES)}"
        )
    numbers = {
        "learning_rate": jnp.asarray(learning_rate, dtype),
        "alpha": jnp.asarray(alpha, dtype),
        "view_noise": jnp.asarray(view_noise, dtype),
        "weight_decay": jnp.asarray(weight_decay, dtype),
    }
    weights = weights.astype(dtype)
    covariance = check_covariance(input_covariance, weights)
    inputs = weights.shape[1]
    diagonals = None
    if samples is None:
        key = jax.random.key(0)
    elif _is_quadratic(name, activation):
        diagonals = _draw_diagonals(
            key, steps=steps, dim=2 * inputs, samples=samples, dtype=dtype
        )
    trajectory = _simulate(
        weights,
        covariance,
        key,
        diagonals,
        numbers,
        steps=steps,
        samples=samples,
        name=name,
        activation=activation,
        predictor_from=predictor_from,
    )
    _check_finite(trajectory, name, learning_rate)
    return trajectory


# A program of its own, which the losses share, because it takes long to compile.
@partial(jax.jit, static_argnames=("steps", "dim", "samples", "dtype"))
def _draw_diagonals(
    key: Array, *, steps: int, dim: int, samples: int, dtype: DTypeLike
) -> Array:
    # In blocks, because drawing takes much more memory than the result.
    return jax.lax.map(
        partial(sample_diagonal, dim=dim, samples=samples, dtype=dtype),
        _fold_in_all(key, jnp.arange(steps)),
        batch_size=_BLOCK,
    )


def _fold_in_all(key: Array, steps: Array) -> Array:
    return jax.vmap(partial(jax.random.fold_in, key))(steps)


@partial(
    jax.jit,
    static_argnames=("steps", "samples", "name", "activation", "predictor_from"),
)
@jax.default_matmul_precision("highest")
def _simulate(
    weights: Array,
    covariance: Array | None,
    key: Array,
    diagonals: Array | None,
    numbers: dict[str, Array],
    *,
    steps: int,
    samples: int | None,
    name: str,
    activation: str,
    predictor_from: str,
) -> NetworkTrajectory:
    is_quadratic = _is_quadratic(name, activation)
    inputs, dtype = weights.shape[1], weights.dtype
    root = None if covariance is None else jnp.linalg.cholesky(covariance)

    def draw(step_key: Array, diagonal: Array | None) -> tuple[Array, Array]:
        if samples is None:
            return expected_factor(inputs=inputs, dtype=dtype)
        if diagonal is None:
            return draw_samples(step_key, inputs=inputs, samples=samples, dtype=dtype)
        return draw_factor(step_key, diagonal, inputs=inputs, samples=samples)

    def update(
        weights: Array, drawn: tuple[Array, Array]
    ) -> tuple[Array, NetworkTrajectory]:
        updated, eigenvalues = update_weights(
            weights,
            *drawn,
            root=root,
            name=name,
            activation=activation,
            predictor_from=predictor_from,
            **numbers,
        )
        return updated, NetworkTrajectory(eigenvalues, weights)

    def update_block(
        weights: Array, block: tuple[Array, Array | None]
    ) -> tuple[Array, NetworkTrajectory]:
        step, diagonal = block
        return jax.lax.scan(
            update, weights, jax.vmap(draw)(_fold_in_all(key, step), diagonal)
        )

    blocks, size = split_evenly(steps, _BLOCK if is_quadratic else 1)
    # Surplus steps repeat the last one.
    step = jnp.minimum(jnp.arange(blocks * size), steps - 1).reshape(blocks, size)
    diagonal = None if diagonals is None else diagonals[step]
    _, trajectory = jax.lax.scan(update_block, weights, (step, diagonal))
    return jax.tree.map(
        lambda rows: rows.reshape(-1, *rows.shape[2:])[:steps], trajectory
    )


def _is_quadratic(name: str, activation: str) -> bool:
    """Whether the loss depends only on the second moment of the samples."""
    return activation == "linear" and name in EUCLIDEAN_LOSSES


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
            f"{int(is_finite.argmin())}; choose a smaller learning_rate than "
            f"{learning_rate}"
        )
