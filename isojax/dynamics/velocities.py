"""Velocities of one sample's representation under each loss, in the eigenbasis of W_P.

z1 and z2 are the projections of two views in the eigenbasis of W_P, whose eigenvalues
lam are fixed, and p = lam * z1. The velocity at rate 1 is -dL/dz1 with the target z2
held constant; without stop-gradient it is -(dL/dz1 + dL/dz2). The representations of a
linear network follow these velocities if its inputs are orthonormal (Theorems 1 and
2). In other networks the tangent kernel mixes the velocities of the samples
(`isojax.dynamics.ntk`).

Velocities of the cosine losses are zero, with zero gradient, where z1 or z2 is zero.

Source: Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in
non-contrastive SSL", appendices B and C.
"""

import functools
import inspect
from collections.abc import Callable

import chex
import jax.numpy as jnp
from jax import Array

from isojax.losses import divide_or_zero, l2_normalize

_SECTIONS = """

Args:
  z1: projections of the first view, shape (..., dim).
  z2: projections of the second view, shape (..., dim).
  eigenvalues: lam, shape (dim,) or (..., dim).

Returns:
  Velocities, shape (..., dim).

Raises:
  AssertionError: if the shapes do not match.
"""


def _velocity(
    function: Callable[[Array, Array, Array], Array],
) -> Callable[[Array, Array, Array], Array]:
    """Checks the arguments, broadcasts lam and completes the docstring."""

    @functools.wraps(function)
    def velocity(z1: Array, z2: Array, eigenvalues: Array) -> Array:
        chex.assert_equal_shape([z1, z2])
        chex.assert_type([z1, z2, eigenvalues], float)
        chex.assert_shape(eigenvalues, (..., z1.shape[-1]))
        chex.assert_is_broadcastable(eigenvalues.shape, z1.shape)
        return function(z1, z2, jnp.broadcast_to(eigenvalues, z1.shape))

    velocity.__doc__ = inspect.cleandoc(function.__doc__ or "") + _SECTIONS
    return velocity


@_velocity
def euclidean(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity lam_m (z2_m - lam_m z1_m): eigenvalues converge to 1, small ones slowly.

    At z1 = z2 = z it is lam (1 - lam) z.

    Example:
      >>> z = jnp.array([1.0, 1.0])
      >>> euclidean(z, z, jnp.array([0.5, 1.0])).tolist()
      [0.25, 0.0]

    Source: Halvagal et al. 2023, Theorem 1, eqs. 8 and 9.
    """
    lam = eigenvalues
    return lam * (z2 - lam * z1)


@_velocity
def iso_euclidean(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity z2_m - lam_m z1_m: all eigenvalues converge to 1 at the same rate.

    At z1 = z2 = z it is (1 - lam) z.

    Example:
      >>> z = jnp.array([1.0, 1.0])
      >>> iso_euclidean(z, z, jnp.array([0.5, 1.0])).tolist()
      [0.5, 0.0]

    Source: Halvagal et al. 2023, appendix C.4.1.
    """
    return z2 - eigenvalues * z1


@_velocity
def euclidean_no_stop_gradient(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity (lam_m - 1)(z2_m - lam_m z1_m): modes with eigenvalues below 1 collapse.

    At z1 = z2 = z it is -(1 - lam)^2 z.

    Example:
      >>> z = jnp.array([1.0, 1.0])
      >>> euclidean_no_stop_gradient(z, z, jnp.array([0.5, 2.0])).tolist()
      [-0.25, -1.0]

    Source: Halvagal et al. 2023, appendix C.1.
    """
    lam = eigenvalues
    return (lam - 1) * (z2 - lam * z1)


@_velocity
def euclidean_no_predictor(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity z2 - z1 for any eigenvalues: zero, so no learning, at z1 = z2.

    Example:
      >>> z1, z2 = jnp.array([1.0, 1.0]), jnp.array([1.0, 3.0])
      >>> euclidean_no_predictor(z1, z2, jnp.array([0.5, 1.0])).tolist()
      [0.0, 2.0]

    Source: Halvagal et al. 2023, appendix C.3.
    """
    return z2 - z1


@_velocity
def cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity under the cosine loss: eigenvalues converge to a common value.

    lam_m / (|p|^3 |z2|) sum_k lam_k (lam_k z1_k^2 z2_m - lam_m z1_k z2_k z1_m). The
    initial state determines the common value.

    Example:
      >>> z = jnp.array([1.0, 1.0])
      >>> jnp.sign(cosine(z, z, jnp.array([0.5, 1.0]))).tolist()
      [1.0, -1.0]

    Source: Halvagal et al. 2023, Theorem 2, eq. 10.
    """
    lam = eigenvalues
    return lam * _pull(lam * z1, z2)


@_velocity
def cosine_near_uniform(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Approximation of `cosine` where all components of z1 have the same magnitude.

    lam_m z1_m^2 z2_m / (|p|^3 |z2|) sum_k lam_k (lam_k - lam_m). It equals `cosine`
    where all abs(z1_k) are equal and z2 is parallel to z1. Elsewhere the ratio of the
    two does not tend to 1 as the eigenvalues approach each other, and their signs can
    differ: the condition is on the representation, not on the eigenvalues.

    Example:
      >>> z, lam = jnp.array([1.0, -1.0]), jnp.array([0.5, 1.0])
      >>> bool(jnp.allclose(cosine_near_uniform(z, z, lam), cosine(z, z, lam)))
      True

    Source: Halvagal et al. 2023, Theorem 2, eq. 11.
    """
    lam = eigenvalues
    p = lam * z1
    squares = jnp.square(_divide_by_norm(z1, p))
    total = jnp.sum(lam, axis=-1, keepdims=True)
    gaps = jnp.sum(jnp.square(lam), axis=-1, keepdims=True) - lam * total
    return _divide_by_norm(lam * gaps * squares * l2_normalize(z2), p)


@_velocity
def iso_cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity of `cosine` divided by lam_m: all modes learn at the same rate.

    Example:
      >>> z, lam = jnp.array([1.0, 2.0]), jnp.array([0.5, 1.0])
      >>> bool(jnp.allclose(lam * iso_cosine(z, z, lam), cosine(z, z, lam)))
      True

    Source: Halvagal et al. 2023, appendix C.4.2.
    """
    return _pull(eigenvalues * z1, z2)


@_velocity
def cosine_no_stop_gradient(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity under the cosine loss without stop-gradient.

    This is `cosine` plus the gradient through the target. At z1 = z2 = z the added term
    is -z_m / (|p| |z|^3) sum_k z_k^2 (lam_k - lam_m).

    The appendix argues that every mode then diverges. The exact gradient shows
    otherwise: the loss does not depend on the lengths of its vectors, so |z| is
    conserved. If one mode dominates and the others are of order e, the dominant mode
    grows at order e^2 and mode m shrinks at order e, by -(1 - lam_m / lam_1)^2 z_m /
    |z|^2: the representation collapses onto a single mode. If the eigenvalues are
    nearly uniform, modes whose eigenvalues differ from the mean, weighted by z_k^2, by
    more than a standard deviation shrink, and the others grow.

    Example:
      >>> z, lam = jnp.array([1.0, 0.1]), jnp.array([1.0, 0.5])
      >>> jnp.sign(cosine_no_stop_gradient(z, z, lam)).tolist()
      [1.0, -1.0]

    Source: Halvagal et al. 2023, appendix C.2.
    """
    p = eigenvalues * z1
    return eigenvalues * _pull(p, z2) + _pull(z2, p)


@_velocity
def cosine_no_predictor(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity of `cosine` at lam = 1: zero, so no learning, at z1 = z2.

    Example:
      >>> z1, z2 = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> cosine_no_predictor(z1, z2, jnp.array([0.5, 1.0])).tolist()
      [0.0, 1.0]

    Source: Halvagal et al. 2023, appendix C.3.
    """
    return _pull(z1, z2)


def _pull(x: Array, y: Array) -> Array:
    """Computes the gradient of the cosine between x and y with respect to x."""
    x_direction, y_direction = l2_normalize(x), l2_normalize(y)
    cosine_of_angle = jnp.sum(x_direction * y_direction, axis=-1, keepdims=True)
    return _divide_by_norm(y_direction - cosine_of_angle * x_direction, x)


VELOCITIES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "euclidean": euclidean,
    "iso_euclidean": iso_euclidean,
    "euclidean_no_stop_gradient": euclidean_no_stop_gradient,
    "euclidean_no_predictor": euclidean_no_predictor,
    "cosine": cosine,
    "cosine_near_uniform": cosine_near_uniform,
    "iso_cosine": iso_cosine,
    "cosine_no_stop_gradient": cosine_no_stop_gradient,
    "cosine_no_predictor": cosine_no_predictor,
}


def _divide_by_norm(numerator: Array, vectors: Array) -> Array:
    norm = jnp.sum(l2_normalize(vectors) * vectors, axis=-1, keepdims=True)
    return divide_or_zero(numerator, norm)
