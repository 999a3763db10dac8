"""Diagnostics of collapse: the dimension and spread of the representations.

Pure functions of arrays. They are logged during training and not differentiated.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from isojax.losses import divide_or_zero, l2_normalize

_RANKME_EPSILON = 1e-7
_LIDAR_DELTA = 1e-4
_RELATIVE_FLOOR = 1e-9  # eigenvalues below it are rounding errors


def participation_ratio(eigenvalues: Array) -> Array:
    """Computes the participation ratio, the effective number of modes.

    It is (sum s)^2 / sum s^2.

    Args:
      eigenvalues: eigenvalues s of a correlation matrix, shape (..., dim).

    Returns:
      Values from 1 (a single mode) to dim (all eigenvalues equal), shape (...); 0 if
      all eigenvalues are zero.

    Example:
      >>> float(participation_ratio(jnp.array([1.0, 1.0, 0.0])))
      2.0
    """
    s = _as_wide_float(eigenvalues)
    s = divide_or_zero(s, jnp.max(jnp.abs(s), axis=-1, keepdims=True))
    return divide_or_zero(
        jnp.square(jnp.sum(s, axis=-1)), jnp.sum(jnp.square(s), axis=-1)
    )


def effective_rank(representations: Array) -> Array:
    """Computes RankMe, the exponential of the entropy of the singular values.

    The singular values are divided by their sum.

    Args:
      representations: one row per sample, shape (n, dim).

    Returns:
      A scalar from about 1 to min(n, dim); 0 if all representations are zero.

    Raises:
      AssertionError: if `representations` is not a matrix.

    Example:
      >>> round(float(effective_rank(jnp.eye(3))), 3)
      3.0

    Source: Garrido et al. 2023, "RankMe: assessing the downstream performance of
    pretrained self-supervised representations by their rank".
    """
    chex.assert_rank(representations, 2)
    return effective_rank_of_spectrum(
        jnp.linalg.svd(_as_wide_float(representations), compute_uv=False)
    )


def effective_rank_of_spectrum(singular_values: Array) -> Array:
    """Computes RankMe from the singular values of the representations.

    Args:
      singular_values: singular values, shape (min(n, dim),).

    Returns:
      The value of `effective_rank`, a scalar.

    Example:
      >>> round(float(effective_rank_of_spectrum(jnp.array([2.0, 2.0, 0.0]))), 3)
      2.0
    """
    singular_values = _as_wide_float(singular_values)
    total = jnp.sum(singular_values)
    p = divide_or_zero(singular_values, total) + _RANKME_EPSILON
    return jnp.where(total == 0, 0, jnp.exp(-jnp.sum(p * jnp.log(p))))


def spectrum_exponent(eigenvalues: Array) -> Array:
    """Computes alpha-ReQ, the exponent of a power law fitted to an eigenspectrum.

    Fits s_k ~ k^-alpha to the eigenvalues s_1 >= s_2 >= ... by least squares in the
    logarithms. The weights 1/k give every octave of k the same influence. The fit uses
    all eigenvalues above 1e-9 times the largest, where the authors choose a range of k
    for each architecture.

    Args:
      eigenvalues: eigenvalues of the centred covariance of the representations, in any
        order, shape (dim,).

    Returns:
      A scalar: 0 if all eigenvalues are equal, higher for spectra that decay faster.
      The authors find the best representations near 1. NaN with fewer than two
      eigenvalues above the threshold.

    Raises:
      AssertionError: if `eigenvalues` is not a vector.

    Example:
      >>> print(spectrum_exponent(jnp.array([1.0, 1 / 4, 1 / 9])).round(3))
      2.0

    Source: Agrawal et al. 2022, "alpha-ReQ: assessing representation quality in
    self-supervised learning by measuring eigenspectrum decay"; weights as in Stringer
    et al. 2019, "High-dimensional geometry of population responses in visual cortex".
    """
    chex.assert_rank(eigenvalues, 1)
    s = jnp.sort(_as_wide_float(eigenvalues), descending=True)
    is_used = s > _RELATIVE_FLOOR * s[0]
    rank = jnp.arange(1, len(s) + 1, dtype=s.dtype)
    weights = is_used / rank
    weights = divide_or_zero(weights, jnp.sum(weights))
    x, y = jnp.log(rank), jnp.log(jnp.where(is_used, s, 1))
    x -= jnp.sum(weights * x)
    return -jnp.sum(weights * x * y) / jnp.sum(weights * jnp.square(x))


def normalized_eigenvalue_sum(eigenvalues: Array) -> Array:
    """Computes NESum, the sum of the eigenvalues divided by the largest.

    Args:
      eigenvalues: eigenvalues of the centred covariance of the representations, shape
        (..., dim).

    Returns:
      Values from 1 (a single mode) to dim (whitened, all eigenvalues equal), shape
      (...); 0 if all eigenvalues are zero.

    Example:
      >>> float(normalized_eigenvalue_sum(jnp.array([2.0, 1.0, 1.0])))
      2.0

    Source: He and Ozay 2022, "Exploring the gap between collapsed and whitened features
    in self-supervised learning".
    """
    s = _as_wide_float(eigenvalues)
    return jnp.sum(divide_or_zero(s, jnp.max(s, axis=-1, keepdims=True)), axis=-1)


def lidar(representations: Array) -> Array:
    """Computes LiDAR, the effective rank of linear discriminant analysis of images.

    Every image is a class, and its views are the samples of the class. The rank is the
    exponential of the entropy of the eigenvalues of W^-1/2 B W^-1/2, divided by their
    sum. B is the covariance of the classes' means, W the mean covariance within them.

    Args:
      representations: one row per view, shape (n, views, dim). The authors use 1,000
        images with 50 views.

    Returns:
      A scalar from about 1 to min(n - 1, dim); 0 if all images have the same mean.

    Raises:
      AssertionError: if `representations` has another rank.

    Example:
      >>> images = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
      >>> print(lidar(jnp.stack([images, images], axis=1)).round(3))
      2.0

    Source: Thilak et al. 2023, "LiDAR: sensing linear probing performance in joint
    embedding SSL architectures".
    """
    chex.assert_rank(representations, 3)
    z = _as_wide_float(representations)
    means = jnp.mean(z, axis=1, keepdims=True)

    def covariance(deviations: Array) -> Array:
        rows = deviations.reshape(-1, z.shape[-1])
        return _matmul(rows.T, rows) / len(rows)

    return lidar_of_covariances(
        covariance(means - jnp.mean(means, axis=0, keepdims=True)),
        covariance(z - means),
    )


def lidar_of_covariances(between: Array, within: Array) -> Array:
    """Computes LiDAR from the covariances between and within images.

    Args:
      between: covariance B of the images' means, shape (dim, dim).
      within: mean covariance W of an image's views, shape (dim, dim). 1e-4 is added to
        its diagonal.

    Returns:
      The value of `lidar`, a scalar.

    Raises:
      AssertionError: if the shapes differ or are not square.

    Example:
      >>> between, within = jnp.diag(jnp.array([2.0, 1.0])), jnp.eye(2)
      >>> print(f"{lidar_of_covariances(between, 0 * within):.2f}")
      1.89
    """
    chex.assert_rank([between, within], 2)
    dim = between.shape[0]
    chex.assert_shape([between, within], (dim, dim))
    values, vectors = jnp.linalg.eigh(_as_wide_float(within), symmetrize_input=True)
    # Rotated by the eigenvectors of W, which leaves the eigenvalues as they are.
    whitening = vectors / jnp.sqrt(jnp.maximum(values, 0) + _LIDAR_DELTA)[None, :]
    matrix = _matmul(whitening.T, _matmul(_as_wide_float(between), whitening))
    return effective_rank_of_spectrum(
        jnp.maximum(jnp.linalg.eigvalsh(matrix, symmetrize_input=True), 0)
    )


def normalized_std(projections: Array, *, axis_name: str | None = None) -> Array:
    """Computes the standard deviation of the l2-normalised projections.

    Args:
      projections: one row per sample, shape (n, dim).
      axis_name: name of the mapped axis over which the batch is split, or None.

    Returns:
      The mean over the dimensions, a scalar: 1/sqrt(dim) for directions spread evenly
      over the sphere, 0 if all directions are equal.

    Raises:
      AssertionError: if `projections` is not a matrix.

    Example:
      >>> float(normalized_std(jnp.array([[2.0, 0.0], [0.0, 1.0]])))
      0.5

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
    """Computes the cosine of the angle between vectors.

    Args:
      x: vectors, shape (..., dim).
      y: vectors, shape (..., dim).

    Returns:
      Values in [-1, 1], shape (...); 0 where a vector is zero.

    Raises:
      AssertionError: if the shapes differ.

    Example:
      >>> cosine_similarity(jnp.array([0.0, 4.0]), jnp.array([1.0, 0.0])).tolist()
      0.0
    """
    chex.assert_equal_shape([x, y])
    return jnp.sum(
        l2_normalize(_as_wide_float(x)) * l2_normalize(_as_wide_float(y)), axis=-1
    )


def eigenvector_alignment(matrix: Array, correlation: Array) -> Array:
    """Measures how well a linear predictor's eigenvectors align with those of C.

    Args:
      matrix: matrix W of a learned predictor p = W z, shape (dim, dim).
      correlation: C, symmetric, shape (dim, dim). Where its eigenvalues coincide, its
        eigenvectors are arbitrary and so is their alignment.

    Returns:
      |<W u, u>| / |W u| for each eigenvector u of C, in the order of ascending
      eigenvalues, shape (dim,): 1 where u is an eigenvector of W, 0 where W u is zero.

    Raises:
      AssertionError: if the shapes differ or are not square.

    Example:
      >>> correlation = jnp.diag(jnp.array([1.0, 2.0]))
      >>> eigenvector_alignment(correlation, correlation).tolist()
      [1.0, 1.0]

    Source: Tian et al. 2021, "Understanding self-supervised learning dynamics without
    contrastive pairs", section 3.
    """
    chex.assert_rank([matrix, correlation], 2)
    dim = matrix.shape[0]
    chex.assert_shape([matrix, correlation], (dim, dim))
    _, u = jnp.linalg.eigh(_as_wide_float(correlation), symmetrize_input=True)
    images = _matmul(_as_wide_float(matrix), u)
    return jnp.abs(cosine_similarity(images.T, u.T))


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _as_wide_float(x: Array) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
