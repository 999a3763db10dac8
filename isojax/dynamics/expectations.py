"""Velocities of the cosine losses averaged over augmentations, and their limits.

Given the image, its two views are independent, so that a term of the velocity factors
into one mean over first views and one over second views. The functions take draws of
each view, (samples, dim) in the predictor's eigenbasis, and average over all pairs of a
first and a second view at the cost of one pass. The same draws may serve for both: each
is then also paired with itself, a bias of order 1 / samples.

With z the views, chi_m = |z_m| / |z|, gamma_m = sign z_m and p = lam * z, eq. 22 is

  lam_m gamma_m sum_k lam_k (lam_k E[chi_k^2 |z|^2 / |p|^3] E[chi_m]
                             - lam_m E[chi_m chi_k |z|^2 / |p|^3] E[chi_k]).

The appendix assumes signs equal in all views. With z_m / |z| in place of chi_m and
gamma_m, as here, that is not needed.

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
    """Mean of `velocities.cosine` over all pairs of views.

    Args:
      z1: draws of the first view, shape (samples, dim).
      z2: draws of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Velocity of the mean, shape (dim,).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, eq. 22.
    """
    return _average_over_pairs(velocities.cosine, z1, z2, eigenvalues)


def expected_iso_cosine(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Mean of `velocities.iso_cosine` over all pairs of views.

    Args:
      z1: draws of the first view, shape (samples, dim).
      z2: draws of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Velocity of the mean, shape (dim,).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, eq. 22 without the leading eigenvalue.
    """
    return _average_over_pairs(velocities.iso_cosine, z1, z2, eigenvalues)


def expected_cosine_near_uniform(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Limit of `expected_cosine` where all modes contribute alike, chi_k = chi.

    lam_m E[z_m^2 / |p|^3] E[z_m / |z|] sum_k lam_k (lam_k - lam_m), the mean of
    `velocities.cosine_near_uniform` over all pairs of views.

    Args:
      z1: draws of the first view, shape (samples, dim).
      z2: draws of the second view, shape (other samples, dim).
      eigenvalues: lam, shape (dim,).

    Returns:
      Velocity of the mean, shape (dim,).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, eqs. 11 and 23.
    """
    return _average_over_pairs(velocities.cosine_near_uniform, z1, z2, eigenvalues)


def expected_cosine_dominant_mode(z1: Array, z2: Array, eigenvalues: Array) -> Array:
    """Limit of `expected_cosine` where one mode dominates: its leading order.

    Let mode 1 have the largest eigenvalue, chi_1 near 1 and the others of order e. For
    a single view z the velocities are

      lam_m (lam_1 - lam_m) z_m / (lam_1 z_1)^2               for m > 1, of order e,
      -sum_k lam_k (lam_1 - lam_k) z_k^2 / (lam_1^2 z_1^3)    for m = 1, of order e^2,

    with errors of order e^3 and e^4: the dominant mode shrinks slowly while it pulls
    the others up. For views that differ in the small modes only, the sum is that of
    lam_k (lam_1 E[z_k]^2 - lam_k E[z_k^2]). The appendix takes chi_k as constant; if
    augmentations vary it so much that this is negative, the dominant mode grows.

    Args:
      z1: draws of the first view, shape (samples, dim), not zero in the dominant mode.
      z2: draws of the second view, shape (other samples, dim), nor these.
      eigenvalues: lam, shape (dim,). The largest is that of the dominant mode.

    Returns:
      Velocity of the mean, shape (dim,).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, proof of Theorem 2, one dominant eigenvalue.
    """
    _check_draws(z1, z2, eigenvalues)
    dominant = jnp.argmax(eigenvalues)
    p_norm = eigenvalues[dominant] * jnp.abs(z1[:, dominant])[:, None]
    # The directions of p and z2 in units of their dominant component.
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
    """Mean of a velocity that is linear in the direction of its second view."""
    _check_draws(z1, z2, eigenvalues)
    mean = jnp.mean(l2_normalize(z2), axis=0)
    length = jnp.sum(l2_normalize(mean) * mean)
    toward_mean = velocity(z1, jnp.broadcast_to(mean, z1.shape), eigenvalues)
    return length * jnp.mean(toward_mean, axis=0)


def _check_draws(z1: Array, z2: Array, eigenvalues: Array) -> None:
    chex.assert_rank([z1, z2, eigenvalues], [2, 2, 1])
    chex.assert_equal_shape([z1, z2, eigenvalues], dims=-1)
    chex.assert_type([z1, z2, eigenvalues], float)
