"""Metrics of representations, computed on the host from sums over the images.

The sums are in float64, whose rounding error is below the constants of the metrics.
Metrics that are not defined, such as those of constant representations, are left out.
"""

import jax.numpy as jnp
import numpy as np

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


def effective_rank_on_host(products: np.ndarray, count: int) -> float:
    """RankMe of representations, computed without their SVD for speed.

    The squared singular values are the eigenvalues of `products`.

    Args:
      products: uncentred Z^T Z of the representations, shape (dim, dim), float64.
      count: number of representations.
    """
    squares = np.maximum(np.linalg.eigvalsh(products), 0)
    singular_values = np.sqrt(squares[-min(count, len(squares)) :])
    return float(spectral.effective_rank_of_spectrum(jnp.asarray(singular_values)))


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
    eigenvalues = jnp.asarray(np.maximum(np.linalg.eigvalsh(covariance), 0))
    return {
        layout.EFFECTIVE_RANK: effective_rank_on_host(products, count)
    } | _without_nan(
        {
            layout.SPECTRUM_EXPONENT: spectral.spectrum_exponent(eigenvalues),
            layout.EIGENVALUE_SUM: spectral.normalized_eigenvalue_sum(eigenvalues),
        }
    )


def _without_nan(metrics: dict) -> dict[str, float]:
    return {
        name: float(value) for name, value in metrics.items() if not jnp.isnan(value)
    }
