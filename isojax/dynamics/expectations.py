"""Velocities of the cosine losses averaged over augmentations, and their limits.

The two views of an image are conditionally independent, so each term of the expected
velocity factors into a mean over first views and a mean over second views. The
functions take samples of both views in the predictor's eigenbasis, shape (samples,
dim), and average over all pairs of a first and a second view at a cost linear in the
number of samples. The same samples can be passed for both views. Each sample is then
also paired with itself, which adds a bias of order 1 / samples.

With z a view, chi_m = |z_m| / |z|, gamma_m = sign z_m and p = lam * z, eq. 22 is

  lam_m gamma_m sum_k lam_k (lam_k E[chi_k^2 |z|^2 / |p|^3] E[chi_m]
                             - lam_m E[chi_m chi_k |z|^2 / |p|^3] E[chi_k]).

The appendix assumes that the signs gamma_m are equal in all views. Here z_m / |z|
replaces chi_m and gamma_m, so this assumption is not needed.

Source: Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in
non-contrastive SSL", proof of Theorem 2.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp
from jax import Array

from isojax.dynamics import velocities
from isojax.losses import l2_normalize


def expected_cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Computes the mean of `velocities.cosine` over all pairs of views.

    Args:
      z1: samples of the first view, shape (samples, dim).
      z2: samples of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Mean velocity, shape (dim,).

    Raises:
      AssertionError: if the shapes do not match.

    Example:
      >>> z1, z2 = jnp.array([[1.0, 1.0], [1.0, 0.5]]), jnp.array([[1.0, 1.0]])
      >>> lam = jnp.array([0.5, 1.0])
      >>> pairs = velocities.cosine(z1, jnp.repeat(z2, 2, axis=0), lam)
      >>> bool(jnp.allclose(expected_cosine(z1, z2, lam), pairs.mean(axis=0)))
      True

    Source: Halvagal et al. 2023, eq. 22.
    """
    return _average_over_pairs(velocities.cosine, z1, z2, eigenvalues)


def expected_iso_cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Computes the mean of `velocities.iso_cosine` over all pairs of views.

    Args:
      z1: samples of the first view, shape (samples, dim).
      z2: samples of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Mean velocity, shape (dim,).

    Raises:
      AssertionError: if the shapes do not match.

    Example:
      >>> z, lam = jnp.array([[1.0, 1.0], [1.0, 0.5]]), jnp.array([0.5, 1.0])
      >>> scaled = lam * expected_iso_cosine(z, z, lam)
      >>> bool(jnp.allclose(scaled, expected_cosine(z, z, lam)))
      True

    Source: Halvagal et al. 2023, eq. 22 without the leading lam_m.
    """
    return _average_over_pairs(velocities.iso_cosine, z1, z2, eigenvalues)


def expected_cosine_near_uniform(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Computes the limit of `expected_cosine` for equal chi_k = chi in all modes.

    lam_m E[z_m^2 / |p|^3] E[z_m / |z|] sum_k lam_k (lam_k - lam_m), the mean of
    `velocities.cosine_near_uniform` over all pairs of views.

    Args:
      z1: samples of the first view, shape (samples, dim).
      z2: samples of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Mean velocity, shape (dim,).

    Raises:
      AssertionError: if the shapes do not match.

    Example:
      >>> z, lam = jnp.array([[1.0, -1.0], [0.5, -0.5]]), jnp.array([0.5, 1.0])
      >>> limit = expected_cosine_near_uniform(z, z, lam)
      >>> bool(jnp.allclose(limit, expected_cosine(z, z, lam)))
      True

    Source: Halvagal et al. 2023, eqs. 11 and 23.
    """
    return _average_over_pairs(velocities.cosine_near_uniform, z1, z2, eigenvalues)


def expected_cosine_dominant_mode(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Computes the leading order of `expected_cosine` where one mode dominates.

    Let mode 1 have the largest eigenvalue, chi_1 be close to 1 and the other chi_k be
    of order e. For a single view z the velocities are

      lam_m (lam_1 - lam_m) z_m / (lam_1 z_1)^2               for m > 1, of order e,
      -sum_k lam_k (lam_1 - lam_k) z_k^2 / (lam_1^2 z_1^3)    for m = 1, of order e^2,

    with errors of order e^3 and e^4: the dominant mode shrinks slowly and the others
    grow. For views that differ in the small modes only, lam_k (lam_1 E[z_k]^2 -
    lam_k E[z_k^2]) replaces the terms of the sum. The appendix takes chi_k as constant.
    If augmentations change chi_k so much that the sum is negative, the dominant mode
    grows.

    Args:
      z1: samples of the first view, shape (samples, dim), nonzero in the dominant mode.
      z2: samples of the second view, shape (other samples, dim), nonzero in the
        dominant mode.
      eigenvalues: lam, shape (dim,). The dominant mode has the largest eigenvalue.

    Returns:
      Mean velocity, shape (dim,).

    Raises:
      AssertionError: if the shapes do not match.

    Example:
      >>> z, lam = jnp.array([[1.0, 0.01]]), jnp.array([1.0, 0.5])
      >>> limit = expected_cosine_dominant_mode(z, z, lam)
      >>> bool(jnp.allclose(limit, expected_cosine(z, z, lam), rtol=1e-3))
      True

    Source: Halvagal et al. 2023, proof of Theorem 2, one dominant eigenvalue.
    """
    _check_draws(z1, z2, eigenvalues)
    dominant = jnp.argmax(eigenvalues)
    p_norm = eigenvalues[dominant] * jnp.abs(z1[:, dominant])[:, None]
    # p and z2 divided by their dominant components.
    p = eigenvalues[None, :] * z1 / p_norm
    y = jnp.mean(z2 / jnp.abs(z2[:, dominant])[:, None], axis=0)
    p_1, y_1 = p[:, dominant][:, None], y[dominant]
    pull_on_others = p_1 * (p_1 * y[None, :] - y_1 * p)
    pull_on_dominant = jnp.sum(p * (p * y_1 - p_1 * y[None, :]), axis=-1)[:, None]
    is_dominant = jnp.arange(eigenvalues.size) == dominant
    pull = jnp.where(is_dominant[None, :], pull_on_dominant, pull_on_others)
    return eigenvalues * jnp.mean(pull / p_norm, axis=0)


def _average_over_pairs(
    velocity: Callable[[Array, Array, Array], Array],
    z1: Array,
    z2: Array,
    eigenvalues: Array,
) -> Array:
    """Averages a velocity that is linear in the direction of the second view."""
    _check_draws(z1, z2, eigenvalues)
    mean = jnp.mean(l2_normalize(z2), axis=0)
    length = jnp.sum(l2_normalize(mean) * mean)
    toward_mean = velocity(z1, jnp.broadcast_to(mean, z1.shape), eigenvalues)
    return length * jnp.mean(toward_mean, axis=0)


def _check_draws(z1: Array, z2: Array, eigenvalues: Array) -> None:
    chex.assert_rank([z1, z2, eigenvalues], [2, 2, 1])
    chex.assert_equal_shape([z1, z2, eigenvalues], dims=-1)
    chex.assert_type([z1, z2, eigenvalues], float)
