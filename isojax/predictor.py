"""The closed-form linear predictor of DirectPred and the correlation matrix behind it.

C is the uncentred correlation matrix of the projections, a moving average of E[z z^T],
with the eigendecomposition C = U diag(s) U^T. The predictor W_P = U diag(lam) U^T has
the same eigenvectors, and its eigenvalues lam are a power of s. W_P is never
differentiated.
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
      eigenvectors: U, one eigenvector per column, shape (dim, dim).
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
    """Updates the moving average of the projections' uncentred correlation matrix.

    C <- decay C + (1 - decay) Z^T Z / N, where Z has N rows. Call it once per training
    step with the projections of both views, and never during evaluation.

    Args:
      correlation: C, shape (dim, dim).
      projections: Z, shape (..., n, dim); leading axes, such as the axis of the views,
        are merged with the rows. Not differentiated.
      decay: fraction of the old value that is kept, in [0, 1].
      axis_name: name of the mapped axis over which Z^T Z / N is averaged, or None.

    Returns:
      The new C, shape (dim, dim), in the dtype of `correlation`, at least float32.

    Raises:
      AssertionError: if the shapes do not match.
      ValueError: if `decay` is outside [0, 1].

    Example:
      >>> z = jnp.array([[2.0, 0.0], [0.0, 1.0]])
      >>> update_correlation(jnp.zeros((2, 2)), z, decay=0.5).tolist()
      [[1.0, 0.0], [0.0, 0.25]]

    Source: Halvagal et al. 2023, appendix D.
    """
    if isinstance(decay, Real) and not 0 <= decay <= 1:
        raise ValueError(
            f"decay={decay} is not a fraction of the old correlation; "
            "choose a value in [0, 1]"
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
    alpha: float | Array = 0.5,
    epsilon: float = 0.0,
    normalize: bool = False,
    clip_max: float = 1e6,
) -> LinearPredictor:
    """Computes DirectPred's closed-form linear predictor W_P = U diag(lam) U^T.

    The eigenvalues s of C are clipped to [0, clip_max]. By default lam = s^alpha, as in
    the paper; with `normalize`, lam = (s / max(s) + epsilon)^alpha, as in the official
    code.

    Args:
      correlation: C, symmetric, shape (dim, dim). Not differentiated. If an entry is
        not finite, zeros replace s and the identity replaces U.
      alpha: exponent of the eigenvalues; 0.5 gives DirectPred, and 1 with `normalize`
        and an epsilon of 0.25 gives DirectCopy.
      epsilon: constant added to the normalised eigenvalues; ignored without
        `normalize`.
      normalize: whether to divide the eigenvalues by the largest one.
      clip_max: upper limit of the eigenvalues of C.

    Returns:
      The predictor, in the dtype of `correlation`, at least float32.

    Raises:
      AssertionError: if `correlation` is not a square matrix.
      ValueError: if `alpha` or `clip_max` is not positive, or `epsilon` is negative.

    Example:
      >>> predictor = direct_predictor(jnp.diag(jnp.array([4.0, 1.0])), alpha=0.5)
      >>> predictor.eigenvalues.tolist(), predictor.matrix.tolist()
      ([1.0, 2.0], [[2.0, 0.0], [0.0, 1.0]])

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


def _check_hyperparameters(
    alpha: float | Array, epsilon: float, clip_max: float
) -> None:
    if isinstance(alpha, Real) and not alpha > 0:
        raise ValueError(
            f"alpha={alpha} is not a positive exponent; "
            "choose alpha > 0, such as 0.5 for DirectPred"
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
