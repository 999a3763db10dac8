"""Losses between a prediction and the other view's projection, one value per sample.

With z1 and z2 the projections of two views of an image, W_P the closed-form predictor,
p = W_P z1 and r = W_P^{1/2} z1, and SG the stop-gradient:

  euclidean              1/2 |p - SG(z2)|^2
  cosine                 -p.SG(z2) / (|p| |SG(z2)|)
  iso_euclidean          1/2 |z1 - SG(z2 + z1 - p)|^2
  iso_euclidean_product  SG(p - z2).(z1 - SG(z2))
  iso_cosine             -z1.SG(z2 / (|p| |z2|)) + 1/2 SG(p.z2 / (|p|^3 |z2|)) |r|^2

The iso losses make every eigenmode of W_P learn at one rate: for a fixed nonsingular
W_P the gradient on z1 of a standard loss is W_P times that of its iso loss. All five
hold in any orthonormal basis, the predictor's eigenbasis included, where p = lam * z1
and r = sqrt(lam) * z1. With "no predictor" p is z1 itself.

Vectors lie along the last axis. A zero vector has no direction: its cosine, and the
gradient through it, are zero.

Source: Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in
non-contrastive SSL", appendix.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def euclidean_loss(
    prediction: Array, target: Array, *, stop_gradient: bool = True
) -> Array:
    """Half the squared distance of the prediction to the target.

    Args:
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).
      stop_gradient: whether the target is held constant.

    Returns:
      Losses, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Source: Halvagal et al. 2023, Theorem 1.
    """
    _check_vectors(prediction, target)
    if stop_gradient:
        target = jax.lax.stop_gradient(target)
    return 0.5 * jnp.sum(jnp.square(prediction - target), axis=-1)


def cosine_loss(
    prediction: Array, target: Array, *, stop_gradient: bool = True
) -> Array:
    """Negative cosine similarity of the prediction and the target.

    Args:
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).
      stop_gradient: whether the target is held constant.

    Returns:
      Losses in [-1, 1], shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Source: Halvagal et al. 2023, Theorem 2.
    """
    _check_vectors(prediction, target)
    if stop_gradient:
        target = jax.lax.stop_gradient(target)
    return -_dot(l2_normalize(prediction), l2_normalize(target))


def iso_euclidean_loss(projection: Array, prediction: Array, target: Array) -> Array:
    """Euclidean loss whose gradient on z1 is p - z2, the same rate for every mode.

    Its value is that of `euclidean_loss`.

    Args:
      projection: z1, shape (..., dim). The only argument differentiated.
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).

    Returns:
      Losses, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Source: Halvagal et al. 2023, eq. 15.
    """
    _check_vectors(projection, prediction, target)
    # z1 - SG(z2 + z1 - p), grouped so that a small p - z2 is not rounded away.
    moving = projection - jax.lax.stop_gradient(projection)
    residual = moving + jax.lax.stop_gradient(prediction - target)
    return 0.5 * jnp.sum(jnp.square(residual), axis=-1)


def iso_euclidean_product_loss(
    projection: Array, prediction: Array, target: Array
) -> Array:
    """The iso-Euclidean loss in its product form: same gradient, another value.

    Args:
      projection: z1, shape (..., dim). The only argument differentiated.
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).

    Returns:
      Losses, of either sign, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Source: Halvagal et al. 2023, appendix C.4.1.
    """
    _check_vectors(projection, prediction, target)
    error = jax.lax.stop_gradient(prediction - target)
    return _dot(error, projection - jax.lax.stop_gradient(target))


def iso_cosine_loss(
    projection: Array, prediction: Array, root_prediction: Array, target: Array
) -> Array:
    """Cosine loss with the eigenvalue in front of each mode's gradient removed.

    Args:
      projection: z1, shape (..., dim). Differentiated.
      prediction: p, shape (..., dim). Held constant.
      root_prediction: r, shape (..., dim). Differentiated.
      target: z2, shape (..., dim). Held constant.

    Returns:
      Losses, shape (...); zero, with zero gradient, where the prediction is zero.

    Raises:
      AssertionError: if the shapes differ.

    Source: Halvagal et al. 2023, eq. 17.
    """
    _check_vectors(projection, prediction, root_prediction, target)
    p, z2 = jax.lax.stop_gradient((prediction, target))
    direction = l2_normalize(z2)
    cosine = _dot(l2_normalize(p), direction)
    # z1 and r are divided by |p| one at a time: |p|^3 would leave float32's range.
    norm = _l2_norm(p)
    z1 = _divide_or_zero(projection, norm)
    r = _divide_or_zero(root_prediction, norm)
    return -_dot(z1, direction) + 0.5 * cosine * _dot(r, r)


def l2_normalize(vectors: Array) -> Array:
    """Vectors divided by their Euclidean norm, without a bias from an epsilon.

    Args:
      vectors: any size between the dtype's extremes, shape (..., dim).

    Returns:
      Unit vectors, shape (..., dim); zero, with zero gradient, where the input is zero.
    """
    scaled = vectors / _power_of_two_below(vectors)
    squared_norm = jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)
    is_zero = squared_norm == 0
    # The inner `where` keeps the square root's infinite slope out of the gradient.
    norm = jnp.sqrt(jnp.where(is_zero, 1, squared_norm))
    return jnp.where(is_zero, 0, scaled / norm)


def _l2_norm(vectors: Array) -> Array:
    """Norms that are never differentiated, shape (..., 1)."""
    scale = _power_of_two_below(vectors)
    squared_norm = jnp.sum(jnp.square(vectors / scale), axis=-1, keepdims=True)
    return scale * jnp.sqrt(squared_norm)


def _power_of_two_below(vectors: Array) -> Array:
    """The power of two just below the largest entry, shape (..., 1).

    Dividing by it is exact and keeps squares from overflowing or vanishing.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(vectors)), axis=-1, keepdims=True)
    _, exponent = jnp.frexp(jnp.maximum(largest, jnp.finfo(largest.dtype).tiny))
    return jnp.ldexp(jnp.ones_like(largest), exponent - 1)


def _divide_or_zero(vectors: Array, norm: Array) -> Array:
    is_zero = norm == 0
    return jnp.where(is_zero, 0, vectors / jnp.where(is_zero, 1, norm))


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=-1)


def _check_vectors(*arrays: Array) -> None:
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
