"""Follows modes from epoch to epoch by eigenvectors and eigenvalues, with NumPy.

A mode keeps its index even if its eigenvalue overtakes that of another mode.

Eigenvectors alone are not enough: two modes can rotate within their plane several times
per epoch, while their eigenvalues hardly change. If the rotation between the ends of
two epochs is close to an odd multiple of 90 degrees, the eigenvectors of the two modes
are exchanged.
"""

import chex
import numpy as np
from scipy.optimize import linear_sum_assignment

# Smaller squared overlaps are all equally bad.
_SMALLEST_OVERLAP = 0.1
# Change of the logarithm of an eigenvalue that costs as much as a squared overlap of
# 1/e. Two modes whose eigenvectors are exchanged keep their eigenvalues if these differ
# by more than a factor of 10**0.2 = 1.6.
_LOG_CHANGE = 0.2


def match_modes(
    previous: np.ndarray,
    current: np.ndarray,
    *,
    previous_values: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    """Matches modes with the eigenvectors of a later matrix, one to one.

    The match of the modes (s, u) with the eigenvectors (t, v) minimises the sum of
    -log max(<u, v>^2, 0.1) + |log t/s| / 0.2. Eigenvectors of equal eigenvalues are
    arbitrary, and so are their matches.

    Args:
      previous: modes, in orthonormal columns, shape (dim, dim).
      current: eigenvectors, in orthonormal columns, shape (dim, dim).
      previous_values: positive eigenvalues of the modes, shape (dim,).
      values: positive eigenvalues of the eigenvectors, shape (dim,).

    Returns:
      The column of `current` that matches each mode, shape (dim,): mode j became
      `current[:, order[j]]`.

    Raises:
      AssertionError: if the shapes differ or the matrices are not square.
    """
    chex.assert_rank([previous, current], 2)
    dim = len(previous)
    chex.assert_shape([previous, current], (dim, dim))
    chex.assert_shape([previous_values, values], (dim,))
    overlaps = np.square(previous.T @ current)
    changes = np.abs(np.log(previous_values)[:, None] - np.log(values)[None, :])
    cost = changes / _LOG_CHANGE - np.log(np.maximum(overlaps, _SMALLEST_OVERLAP))
    _, order = linear_sum_assignment(cost)
    return order


def order_of_values(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value.

    Args:
      values: eigenvalues of the modes, shape (dim,).

    Returns:
      `order` such that `np.sort(values)[order] == values`, shape (dim,). It is the
      result of `match_modes` for these modes and ascending eigenvalues.
    """
    order = np.empty(len(values), int)
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    return order
