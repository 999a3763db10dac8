"""One gradient step of a one-layer network on the mean loss of a batch.

z = act(W x) for both views, W_P = C^alpha is the closed-form predictor, which is not
differentiated, p = W_P z1 and r = W_P^(1/2) z1.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from isojax.dynamics.views import mix_views
from isojax.losses import (
    cosine_loss,
    euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
)
from isojax.predictor import direct_predictor

# Functions of z1, p, r and z2.
EUCLIDEAN_LOSSES = {
    "euclidean": lambda z1, p, r, z2: euclidean_loss(p, z2),
    "iso_euclidean": lambda z1, p, r, z2: iso_euclidean_loss(z1, p, z2),
    "euclidean_no_stop_gradient": lambda z1, p, r, z2: euclidean_loss(
        p, z2, stop_gradient=False
    ),
    "euclidean_no_predictor": lambda z1, p, r, z2: euclidean_loss(z1, z2),
}
COSINE_LOSSES = {
    "cosine": lambda z1, p, r, z2: cosine_loss(p, z2),
    "iso_cosine": iso_cosine_loss,
    "cosine_no_stop_gradient": lambda z1, p, r, z2: cosine_loss(
        p, z2, stop_gradient=False
    ),
    "cosine_no_predictor": lambda z1, p, r, z2: cosine_loss(z1, z2),
}
LOSSES = EUCLIDEAN_LOSSES | COSINE_LOSSES
ACTIVATIONS = {"linear": lambda z: z, "relu": jax.nn.relu}
PREDICTORS = ("weights", "activations")


def update_weights(
    weights: Array,
    columns: Array,
    shares: Array,
    *,
    name: str,
    activation: str,
    predictor_from: str,
    learning_rate: Array | float,
    alpha: Array | float,
    view_noise: Array,
    weight_decay: Array | float,
    root: Array | None = None,
) -> tuple[Array, Array]:
    """Computes W - learning_rate (grad + weight_decay W) for sum_k share_k loss_k.

    Args:
      weights: weights W, shape (M, N).
      columns: standard normal numbers of both views, as described in `views`, shape
        (chunks, 2, N, k).
      shares: weights of the columns in the mean, shape (chunks, k).
      name: name of the loss, a key of `LOSSES`.
      activation: name of the activation, a key of `ACTIVATIONS`.
      predictor_from: definition of C: "weights" for W L L^T W^T, "activations" for
        the mean of z z^T over both views.
      learning_rate: learning rate of the step.
      alpha: exponent of the predictor.
      view_noise: sigma_1 and sigma_2, shape (2,).
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2.
      root: factor L of the covariance L L^T of the inputs, shape (N, N); None for the
        identity.

    Returns:
      The new weights, shape (M, N), and the eigenvalues of W_P before the step,
      ascending, shape (M,). The eigenvalues are NaN if C is not finite.
    """
    act = ACTIVATIONS[activation]

    def transform(weights: Array) -> Array:
        return weights if root is None else weights @ root

    def project(weights: Array, columns: Array) -> tuple[Array, Array]:
        x1, x2 = mix_views(columns, view_noise)
        on_white = transform(weights)
        return act(on_white @ x1), act(on_white @ x2)

    def second_moment(columns: Array, shares: Array) -> Array:
        z1, z2 = project(weights, columns)
        half = shares[None, :] / 2
        return (half * z1) @ z1.T + (half * z2) @ z2.T

    if predictor_from == "weights":
        on_white = transform(weights)
        correlation = on_white @ on_white.T
    else:
        correlation = _sum_chunks(second_moment, columns, shares)
    predictor = direct_predictor(correlation, alpha=alpha, clip_max=math.inf)

    def mean_loss(weights: Array, columns: Array, shares: Array) -> Array:
        z1, z2 = project(weights, columns)
        p, r = predictor.matrix @ z1, predictor.root @ z1
        return jax.vmap(LOSSES[name], in_axes=1)(z1, p, r, z2) @ shares

    def gradient(columns: Array, shares: Array) -> Array:
        return jax.grad(mean_loss)(weights, columns, shares)

    total = _sum_chunks(gradient, columns, shares)
    # `direct_predictor` treats a correlation that is not finite as zero.
    is_finite = jnp.isfinite(correlation).all()
    eigenvalues = jnp.where(is_finite, predictor.eigenvalues, jnp.nan)
    return weights - learning_rate * (total + weight_decay * weights), eigenvalues


def _sum_chunks(
    term: Callable[[Array, Array], Array], columns: Array, shares: Array
) -> Array:
    return jax.lax.map(lambda chunk: term(*chunk), (columns, shares)).sum(axis=0)
