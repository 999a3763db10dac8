"""Diagnostics of collapse: how many directions the representations use, and how much.

Pure functions of arrays, logged while training and not meant to be differentiated.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from isojax.losses import l2_normalize

_RANKME_EPSILON = 1e-7


def participation_ratio(eigenvalues: Array) -> Array:
    """Number of modes that share the variance, (sum s)^2 / sum s^2.

    Args:
      eigenvalues: s of a correlation matrix, shape (..., dim).

    Returns:
      From 1 (one mode) to dim (all equal), shape (...); 0 if all eigenvalues are zero.
    """
    s = _as_wide_float(eigenvalues)
    s = _divide_or_zero(s, jnp.max(jnp.abs(s), axis=-1, keepdims=True))
    return _divide_or_zero(
        jnp.square(jnp.sum(s, axis=-1)), jnp.sum(jnp.square(s), axis=-1)
    )


def effective_rank(representations: Array) -> Array:
    """RankMe: the exponential of the entropy of the normalised singular values.

    Args:
      representations: one row a sample, shape (n, dim).

    Returns:
      A scalar from about 1 to min(n, dim); 0 if all representations are zero.

    Raises:
      AssertionError: if `representations` is not a matrix.

    Source: Garrido et al. 2023, "RankMe: assessing the downstream performance of
    pretrained self-supervised representations by their rank".
    """
    chex.assert_rank(representations, 2)
    return effective_rank_of_spectrum(
        jnp.linalg.svd(_as_wide_float(representations), compute_uv=False)
    )


def effective_rank_of_spectrum(singular_values: Array) -> Array:
    """RankMe from the singular values of the representations.

    Args:
      singular_values: shape (min(n, dim),).

    Returns:
      As `effective_rank`.
    """
    singular_values = _as_wide_float(singular_values)
    total = jnp.sum(singular_values)
    p = _divide_or_zero(singular_values, total) + _RANKME_EPSILON
    return jnp.where(total == 0, 0, jnp.exp(-jnp.sum(p * jnp.log(p))))


def normalized_std(projections: Array, *, axis_name: str | None = None) -> Array:
    """Spread of the directions: standard deviation of the l2-normalised projections.

    Args:
      projections: one row a sample, shape (n, dim).
      axis_name: mapped axis over which the batch is spread, if any.

    Returns:
      The mean over dimensions, a scalar: 1/sqrt(dim) when the directions fill the
      sphere, 0 when they have collapsed to one.

    Raises:
      AssertionError: if `projections` is not a matrix.

    Source: Chen and He 2021, "Exploring simple Siamese representation learning",
    section 4.1.
    """
    chex.assert_rank(projections, 2)

    def batch_mean(rows: Array) -> Array:
        mean = jnp.mean(rows, axis=0)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    directions = l2_normalize(_as_wide_float(projections))
    deviations = directions - batch_mean(directions)[None, :]
    return jnp.mean(jnp.sqrt(batch_mean(jnp.square(deviations))))


def cosine_similarity(x: Array, y: Array) -> Array:
    """Cosine of the angle between vectors.

    Args:
      x: shape (..., dim).
      y: shape (..., dim).

    Returns:
      Values in [-1, 1], shape (...); 0 where a vector is zero.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([x, y])
    return jnp.sum(
        l2_normalize(_as_wide_float(x)) * l2_normalize(_as_wide_float(y)), axis=-1
    )


def eigenvector_alignment(matrix: Array, correlation: Array) -> Array:
    """How nearly the eigenvectors of C are eigenvectors of a learned linear predictor.

    Args:
      matrix: W of a predictor p = W z, shape (dim, dim).
      correlation: C, symmetric, shape (dim, dim). Where its eigenvalues coincide, its
        eigenvectors are arbitrary and so is their alignment.

    Returns:
      |<W u, u>| / |W u| for each eigenvector u of C in the order of ascending
      eigenvalues, shape (dim,): 1 where W u is parallel to u, 0 where W u is zero.

    Raises:
      AssertionError: if the shapes differ or are not square.

    Source: Tian et al. 2021, "Understanding self-supervised learning dynamics without
    contrastive pairs", section 3.
    """
    chex.assert_rank([matrix, correlation], 2)
    dim = matrix.shape[0]
    chex.assert_shape([matrix, correlation], (dim, dim))
    _, u = jnp.linalg.eigh(_as_wide_float(correlation), symmetrize_input=True)
    images = jnp.matmul(_as_wide_float(matrix), u, precision=jax.lax.Precision.HIGHEST)
    return jnp.abs(cosine_similarity(images.T, u.T))


def _divide_or_zero(x: Array, y: Array) -> Array:
    is_zero = y == 0
    return jnp.where(is_zero, 0, x / jnp.where(is_zero, 1, y))


def _as_wide_float(x: Array) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
