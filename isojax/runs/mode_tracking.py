"""Follows modes from epoch to epoch by their eigenvectors, with NumPy.

A mode keeps its index even if its eigenvalue overtakes that of another mode.
"""

import chex
import numpy as np
from scipy.optimize import linear_sum_assignment


def match_modes(previous: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Matches modes with the eigenvectors of a later matrix, one to one.

    The match maximises the sum of the squared overlaps <u, v>^2. Eigenvectors of equal
    eigenvalues are arbitrary, and so are their matches.

    Args:
      previous: modes, in orthonormal columns, shape (dim, dim).
      current: eigenvectors, in orthonormal columns, shape (dim, dim).

    Returns:
      The column of `current` that matches each mode, shape (dim,): mode j became
      `current[:, order[j]]`.

    Raises:
      AssertionError: if the shapes differ or are not square.
    """
    chex.assert_rank([previous, current], 2)
    dim = len(previous)
    chex.assert_shape([previous, current], (dim, dim))
    _, order = linear_sum_assignment(np.square(previous.T @ current), maximize=True)
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
