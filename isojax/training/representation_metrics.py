"""Metrics of representations, computed on the host from sums over the images.

The sums are in float64, whose rounding error is below the constants of the metrics.
Metrics that are not defined, such as those of constant representations, are left out.
"""

import jax
import numpy as np
from jax import Array

from isojax import spectral
from isojax.runs import layout


def products_of(representations: np.ndarray) -> np.ndarray:
    """Uncentred Z^T Z of representations Z (n, dim), shape (dim, dim), float64."""
    z = representations.astype(np.float64)
    return z.T @ z


def centred_covariance(
    products: np.ndarray, total: np.ndarray, count: int
) -> np.ndarray:
    """Covariance of representations around their mean.

    Args:
      products: uncentred Z^T Z of the representations, shape (dim, dim), float64.
      total: sum of the representations, shape (dim,), float64.
      count: number of representations.
    """
    return products / count - np.outer(total, total) / count**2


def representation_metrics(
    products: np.ndarray, total: np.ndarray, count: int
) -> dict[str, float]:
    """RankMe, alpha-ReQ and NESum of representations.

    Args:
      products: uncentred Z^T Z of the representations, shape (dim, dim), float64.
      total: sum of the representations, shape (dim,), float64.
      count: number of representations.
    """
    covariance = centred_covariance(products, total, count)
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance), 0)
    metrics = _metrics_of_spectra(_singular_values(products, count), eigenvalues)
    return {
        name: float(value) for name, value in metrics.items() if not np.isnan(value)
    }


def _singular_values(products: np.ndarray, count: int) -> np.ndarray:
    """Singular values of representations, computed without their SVD for speed."""
    squares = np.maximum(np.linalg.eigvalsh(products), 0)
    return np.sqrt(squares[-min(count, len(squares)) :])


# One program, because on a GPU each operation alone takes 0.05 s to compile.
@jax.jit
def _metrics_of_spectra(singular_values: Array, eigenvalues: Array) -> dict[str, Array]:
    return {
        layout.EFFECTIVE_RANK: spectral.effective_rank_of_spectrum(singular_values),
        layout.SPECTRUM_EXPONENT: spectral.spectrum_exponent(eigenvalues),
        layout.EIGENVALUE_SUM: spectral.normalized_eigenvalue_sum(eigenvalues),
    }
