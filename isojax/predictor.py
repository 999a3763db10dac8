"""The closed-form linear predictor of DirectPred, and the correlation it is built from.

C is the uncentred correlation matrix of the projections, a moving average of E[z z^T],
and C = U diag(s) U^T its eigendecomposition. The predictor shares its eigenvectors:
W_P = U diag(lam) U^T with lam a power of s. It is never differentiated.
"""

from numbers import Real
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

_PRECISION = jax.lax.Precision.HIGHEST


class LinearPredictor(NamedTuple):
    """A symmetric positive semidefinite predictor and its eigendecomposition.

    Attributes:
      matrix: W_P = U diag(lam) U^T, shape (dim, dim).
      root: its square root U diag(sqrt(lam)) U^T, shape (dim, dim).
      eigenvalues: lam, ascending, shape (dim,).
      eigenvectors: U, one eigenvector a column, shape (dim, dim).
    """

    matrix: Array
    root: Array
    eigenvalues: Array
    eigenvectors: Array


def update_correlation(
    correlation: Array,
    projections: Array,
    *,
    decay: float,
    axis_name: str | None = None,
) -> Array:
    """Moving average of the uncentred correlation matrix of the projections.

    C <- decay C + (1 - decay) Z^T Z / N, with the N rows of all views given. Meant for
    training only, once a step.

    Args:
      correlation: C, shape (dim, dim).
      projections: Z, shape (..., n, dim); leading axes, such as one for the views,
        count as more rows. Not differentiated.
      decay: fraction of the old value kept, in [0, 1].
      axis_name: mapped axis over which Z^T Z / N is averaged, if any.

    Returns:
      The new C, shape (dim, dim), in the dtype of `correlation`, at least float32.

    Raises:
      AssertionError: if the shapes do not fit.
      ValueError: if `decay` is outside [0, 1].

    Source: Halvagal et al. 2023, appendix D.
    """
    if isinstance(decay, Real) and not 0 <= decay <= 1:
        raise ValueError(
            f"decay={decay} is not the fraction of the old correlation kept; "
            "choose it in [0, 1]"
        )
    correlation, projections = jnp.asarray(correlation), jnp.asarray(projections)
    chex.assert_rank(correlation, 2)
    dim = correlation.shape[0]
    chex.assert_shape(correlation, (dim, dim))
    chex.assert_shape(projections, (..., None, dim))
    result_dtype = jnp.promote_types(correlation.dtype, jnp.float32)
    dtype = jnp.promote_types(result_dtype, projections.dtype)
    z = jax.lax.stop_gradient(projections).reshape(-1, dim).astype(dtype)
    batch_correlation = jnp.matmul(z.T, z, precision=_PRECISION) / z.shape[0]
    if axis_name is not None:
        batch_correlation = jax.lax.pmean(batch_correlation, axis_name)
    updated = decay * correlation + (1 - decay) * batch_correlation
    return updated.astype(result_dtype)


def direct_predictor(
    correlation: Array,
    *,
    alpha: float = 0.5,
    epsilon: float = 0.0,
    normalize: bool = False,
    clip_max: float = 1e6,
) -> LinearPredictor:
    """Closed-form linear predictor W_P = U diag(lam) U^T of DirectPred.

    With s the eigenvalues of C clipped to [0, clip_max], lam = s^alpha, the paper's
    recipe; or, normalised, lam = (s / max(s) + epsilon)^alpha, the official code's.

    Args:
      correlation: C, symmetric, shape (dim, dim). Not differentiated. If an entry is
        not finite then s counts as zero and U is the identity.
      alpha: exponent applied to the eigenvalues; 0.5 is DirectPred, 1 (normalised, with
        epsilon 0.25) is DirectCopy.
      epsilon: shift of the normalised eigenvalues; without effect unless `normalize`.
      normalize: whether to divide the eigenvalues by the largest.
      clip_max: largest eigenvalue of C let through.

    Returns:
      The predictor, in the dtype of `correlation`, at least float32.

    Raises:
      AssertionError: if `correlation` is not a square matrix.
      ValueError: if `alpha` or `clip_max` is not positive, or `epsilon` negative.

    Source: Halvagal et al. 2023, appendix D; Tian et al. 2021, "Understanding
    self-supervised learning dynamics without contrastive pairs", section 3; Wang et al.
    2021, "Towards demystifying representation learning with non-contrastive
    self-supervision", for DirectCopy.
    """
    _check_hyperparameters(alpha, epsilon, clip_max)
    correlation = jnp.asarray(correlation)
    chex.assert_rank(correlation, 2)
    dim = correlation.shape[0]
    chex.assert_shape(correlation, (dim, dim))
    dtype = jnp.promote_types(correlation.dtype, jnp.float32)
    # Stopped before eigh, whose gradient is NaN where eigenvalues coincide.
    c = jax.lax.stop_gradient(correlation).astype(dtype)
    s, u = jnp.linalg.eigh(c, symmetrize_input=True)
    is_valid = jnp.isfinite(s).all() & jnp.isfinite(u).all()
    s = jnp.where(is_valid, jnp.clip(s, 0, clip_max), 0)
    u = jnp.where(is_valid, u, jnp.eye(dim, dtype=dtype))
    if normalize:
        largest = s[-1]
        s = s / jnp.where(largest > 0, largest, 1) + epsilon
    lam = s**alpha
    return LinearPredictor(
        matrix=_compose(u, lam),
        root=_compose(u, jnp.sqrt(lam)),
        eigenvalues=lam,
        eigenvectors=u,
    )


def _compose(eigenvectors: Array, eigenvalues: Array) -> Array:
    scaled = eigenvectors * eigenvalues[None, :]
    return jnp.matmul(scaled, eigenvectors.T, precision=_PRECISION)


def _check_hyperparameters(alpha: float, epsilon: float, clip_max: float) -> None:
    if isinstance(alpha, Real) and not alpha > 0:
        raise ValueError(
            f"alpha={alpha} would raise zero eigenvalues to a power that is not "
            "positive; choose alpha > 0, such as 0.5 for DirectPred"
        )
    if isinstance(epsilon, Real) and not epsilon >= 0:
        raise ValueError(
            f"epsilon={epsilon} would make eigenvalues of the predictor negative; "
            "choose epsilon >= 0"
        )
    if isinstance(clip_max, Real) and not clip_max > 0:
        raise ValueError(
            f"clip_max={clip_max} would clip every eigenvalue to zero; "
            "choose clip_max > 0, such as 1e6"
        )
