"""How fast a sample's representation moves under each loss, in the eigenbasis of W_P.

With z1 and z2 the projections of two views, W_P fixed with eigenvalues lam, and
p = lam * z1, the velocity at rate 1 is -dL/dz1 with the target z2 held constant;
without stop-gradient it is -(dL/dz1 + dL/dz2). The representations of a linear network
move so when its inputs are orthonormal (Theorems 1 and 2); in any other network the
tangent kernel mixes the samples' velocities (`isojax.dynamics.ntk`).

Like the gradients of `isojax.losses`, velocities of cosine losses are zero, with zero
gradient, where z1 or z2 is zero.

Source: Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in
non-contrastive SSL", appendices B and C.
"""

import chex
import jax.numpy as jnp
from jax import Array

from isojax.losses import l2_normalize


def euclidean(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity lam_m (z2_m - lam_m z1_m): eigenvalues tend to 1, small ones slowly.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim); lam (1 - lam) z at z1 = z2 = z.

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, Theorem 1, eqs. 8 and 9.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    return lam * (z2 - lam * z1)


def iso_euclidean(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity z2_m - lam_m z1_m: every eigenvalue tends to 1 at one rate.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim); (1 - lam) z at z1 = z2 = z.

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.4.1.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    return z2 - lam * z1


def euclidean_no_stop_gradient(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity (lam_m - 1)(z2_m - lam_m z1_m): modes with eigenvalues below 1 collapse.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim); -(1 - lam)^2 z at z1 = z2 = z.

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.1.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    return (lam - 1) * (z2 - lam * z1)


def euclidean_no_predictor(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity z2 - z1: nothing is learnt once views agree.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: without effect, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim); zero at z1 = z2.

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.3.
    """
    _eigenvalues_like(z1, z2, eigenvalues)
    return z2 - z1


def cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity under the cosine loss: eigenvalues tend to one value, set by the start.

    lam_m / (|p|^3 |z2|) sum_k lam_k (lam_k z1_k^2 z2_m - lam_m z1_k z2_k z1_m).

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, Theorem 2, eq. 10.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    return lam * _pull(lam * z1, z2)


def cosine_near_uniform(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity lam_m z1_m^2 z2_m / (|p|^3 |z2|) sum_k lam_k (lam_k - lam_m).

    The appendix's approximation of `cosine`. The two are equal where all abs(z1_k) are
    equal and z2 is parallel to z1. Elsewhere their ratio does not tend to 1 as the
    eigenvalues draw together, and they can differ in sign: the condition is on the
    representation, not on the eigenvalues.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, Theorem 2, eq. 11.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    p = lam * z1
    squares = jnp.square(_divide_by_norm(z1, p))
    total = jnp.sum(lam, axis=-1, keepdims=True)
    gaps = jnp.sum(jnp.square(lam), axis=-1, keepdims=True) - lam * total
    return _divide_by_norm(lam * gaps * squares * l2_normalize(z2), p)


def iso_cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity of `cosine` without its leading lam_m: small eigenvalues keep pace.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.4.2.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    return _pull(lam * z1, z2)


def cosine_no_stop_gradient(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity of `cosine` plus the pull of the prediction on the target.

    At z1 = z2 = z the added term is -z_m / (|p| |z|^3) sum_k z_k^2 (lam_k - lam_m).

    The appendix argues that every mode then diverges. The exact gradient says
    otherwise: as the loss does not depend on lengths, |z| is conserved there. If one
    mode dominates and the others are of order e, it grows at order e^2 and they shrink
    at order e, mode m by -(1 - lam_m / lam_1)^2 z_m / |z|^2: the representation
    collapses onto a single mode. If eigenvalues are nearly uniform, with weights z_k^2,
    modes further than a standard deviation from the mean shrink and the rest grow.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: lam, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.2.
    """
    lam = _eigenvalues_like(z1, z2, eigenvalues)
    p = lam * z1
    return lam * _pull(p, z2) + _pull(z2, p)


def cosine_no_predictor(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Velocity of `cosine` at lam = 1: nothing is learnt once views agree.

    Args:
      z1: first view, shape (..., dim).
      z2: second view, shape (..., dim).
      eigenvalues: without effect, shape (dim,) or (..., dim).

    Returns:
      Velocities, shape (..., dim); zero at z1 = z2.

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, appendix C.3.
    """
    _eigenvalues_like(z1, z2, eigenvalues)
    return _pull(z1, z2)


def _pull(x: Array, y: Array) -> Array:
    """Gradient on x of the cosine of x and y, a vector orthogonal to x."""
    x_direction, y_direction = l2_normalize(x), l2_normalize(y)
    cosine_of_angle = jnp.sum(x_direction * y_direction, axis=-1, keepdims=True)
    return _divide_by_norm(y_direction - cosine_of_angle * x_direction, x)


def _divide_by_norm(numerator: Array, vectors: Array) -> Array:
    norm = jnp.sum(l2_normalize(vectors) * vectors, axis=-1, keepdims=True)
    is_zero = norm == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, norm))


def _eigenvalues_like(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """The eigenvalues of each sample, shape (..., dim), once shapes are checked."""
    chex.assert_equal_shape([z1, z2])
    chex.assert_type([z1, z2, eigenvalues], float)
    chex.assert_shape(eigenvalues, (..., z1.shape[-1]))
    chex.assert_is_broadcastable(eigenvalues.shape, z1.shape)
    return jnp.broadcast_to(eigenvalues, z1.shape)
