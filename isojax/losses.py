"""Losses between a prediction and the other view's projection, one value per sample.

z1 and z2 are the projections of two views of an image, W_P is the closed-form
predictor, p = W_P z1, r = W_P^{1/2} z1, and SG is the stop-gradient:

  euclidean              1/2 |p - SG(z2)|^2
  cosine                 -p.SG(z2) / (|p| |SG(z2)|)
  iso_euclidean          1/2 |z1 - SG(z2 + z1 - p)|^2
  iso_euclidean_product  SG(p - z2).(z1 - SG(z2))
  iso_cosine             -z1.SG(z2 / (|p| |z2|)) + 1/2 SG(p.z2 / (|p|^3 |z2|)) |r|^2

Under the iso losses all eigenmodes of W_P learn at the same rate: for a fixed
nonsingular W_P, the gradient of a standard loss with respect to z1 is W_P times the
gradient of its iso loss. The values do not depend on the choice of orthonormal basis.
In the predictor's eigenbasis p = lam * z1 and r = sqrt(lam) * z1. Without a predictor,
p = z1.

Vectors lie along the last axis. The cosine with a zero vector is defined as zero, with
zero gradient.

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
    """Half the squared distance between the prediction and the target.

    Args:
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).
      stop_gradient: whether the target is held constant.

    Returns:
      Losses, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> prediction, target = jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0])
      >>> float(euclidean_loss(prediction, target))
      2.5

    Source: Halvagal et al. 2023, Theorem 1.
    """
    _check_vectors(prediction, target)
    if stop_gradient:
        target = jax.lax.stop_gradient(target)
    return 0.5 * jnp.sum(jnp.square(prediction - target), axis=-1)


def cosine_loss(
    prediction: Array, target: Array, *, stop_gradient: bool = True
) -> Array:
    """Negative cosine similarity between the prediction and the target.

    Args:
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).
      stop_gradient: whether the target is held constant.

    Returns:
      Losses in [-1, 1], shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> prediction, target = jnp.array([3.0, 4.0]), jnp.array([2.0, 0.0])
      >>> round(float(cosine_loss(prediction, target)), 3)
      -0.6

    Source: Halvagal et al. 2023, Theorem 2.
    """
    _check_vectors(prediction, target)
    if stop_gradient:
        target = jax.lax.stop_gradient(target)
    return -_dot(l2_normalize(prediction), l2_normalize(target))


def iso_euclidean_loss(projection: Array, prediction: Array, target: Array) -> Array:
    """Euclidean loss under which all eigenmodes learn at the same rate.

    The value equals that of `euclidean_loss`; the gradient with respect to z1 is
    p - z2.

    Args:
      projection: z1, shape (..., dim). The only argument differentiated.
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).

    Returns:
      Losses, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> z1, p, z2 = jnp.array([1.0, 2.0]), jnp.array([0.5, 2.0]), jnp.ones(2)
      >>> jax.grad(iso_euclidean_loss)(z1, p, z2).tolist()
      [-0.5, 1.0]

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
    """Product form of the iso-Euclidean loss: same gradient, different value.

    Args:
      projection: z1, shape (..., dim). The only argument differentiated.
      prediction: p, shape (..., dim).
      target: z2, shape (..., dim).

    Returns:
      Losses, positive or negative, shape (...).

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> z1, p, z2 = jnp.array([1.0, 2.0]), jnp.array([0.5, 2.0]), jnp.ones(2)
      >>> jax.grad(iso_euclidean_product_loss)(z1, p, z2).tolist()
      [-0.5, 1.0]

    Source: Halvagal et al. 2023, appendix C.4.1.
    """
    _check_vectors(projection, prediction, target)
    error = jax.lax.stop_gradient(prediction - target)
    return _dot(error, projection - jax.lax.stop_gradient(target))


def iso_cosine_loss(
    projection: Array, prediction: Array, root_prediction: Array, target: Array
) -> Array:
    """Cosine loss under which all eigenmodes learn at the same rate.

    In the predictor's eigenbasis, the gradient is that of `cosine_loss` divided by the
    eigenvalue of each mode.

    Args:
      projection: z1, shape (..., dim). Differentiated.
      prediction: p, shape (..., dim). Held constant.
      root_prediction: r, shape (..., dim). Differentiated.
      target: z2, shape (..., dim). Held constant.

    Returns:
      Losses, shape (...); zero, with zero gradient, where the prediction is zero.

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> z, lam = jnp.array([1.0, 1.0]), jnp.array([0.25, 1.0])
      >>> z1, p, r = z, lam * z, jnp.sqrt(lam) * z
      >>> round(float(iso_cosine_loss(z1, p, r, z)), 3)
      -0.868

    Source: Halvagal et al. 2023, eq. 17.
    """
    _check_vectors(projection, prediction, root_prediction, target)
    p, z2 = jax.lax.stop_gradient((prediction, target))
    direction = l2_normalize(z2)
    cosine = _dot(l2_normalize(p), direction)
    # z1 and r are divided by |p| separately: |p|^3 can overflow or underflow.
    norm = _l2_norm(p)
    z1 = divide_or_zero(projection, norm)
    r = divide_or_zero(root_prediction, norm)
    return -_dot(z1, direction) + 0.5 * cosine * _dot(r, r)


def l2_normalize(vectors: Array) -> Array:
    """Divides vectors by their Euclidean norms, exactly, with no epsilon added.

    Args:
      vectors: vectors of any finite length, shape (..., dim).

    Returns:
      Unit vectors, shape (..., dim); zero, with zero gradient, where the input is zero.

    Example:
      >>> l2_normalize(jnp.array([[0.0, 5.0], [0.0, 0.0]])).tolist()
      [[0.0, 1.0], [0.0, 0.0]]
    """
    scaled = vectors / _power_of_two_below(vectors)
    squared_norm = jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)
    is_zero = squared_norm == 0
    # The inner `where` keeps the square root's infinite slope out of the gradient.
    norm = jnp.sqrt(jnp.where(is_zero, 1, squared_norm))
    return jnp.where(is_zero, 0, scaled / norm)


def _l2_norm(vectors: Array) -> Array:
    """Computes norms, shape (..., 1); not meant to be differentiated."""
    scale = _power_of_two_below(vectors)
    squared_norm = jnp.sum(jnp.square(vectors / scale), axis=-1, keepdims=True)
    return scale * jnp.sqrt(squared_norm)


def _power_of_two_below(vectors: Array) -> Array:
    """Returns the power of two at or below the largest entry, shape (..., 1).

    Dividing by it is exact and prevents overflow and underflow of squares.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(vectors)), axis=-1, keepdims=True)
    _, exponent = jnp.frexp(jnp.maximum(largest, jnp.finfo(largest.dtype).tiny))
    return jnp.ldexp(jnp.ones_like(largest), exponent - 1)


def divide_or_zero(x: Array, y: Array) -> Array:
    """Divides x by y; the result is zero, with zero gradient, where y is zero.

    Args:
      x: numerator, shape (...).
      y: denominator, broadcast against `x`.

    Returns:
      The quotient, shape (...).

    Example:
      >>> divide_or_zero(jnp.array([3.0, 3.0]), jnp.array([2.0, 0.0])).tolist()
      [1.5, 0.0]
    """
    is_zero = y == 0
    return jnp.where(is_zero, 0, x / jnp.where(is_zero, 1, y))


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=-1)


def _check_vectors(*arrays: Array) -> None:
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
