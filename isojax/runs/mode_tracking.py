"""Modes followed through time, while their eigenvalues cross. On the host."""

import chex
import numpy as np
from scipy.optimize import linear_sum_assignment


def match_modes(previous: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Finds each mode among the eigenvectors of a later matrix.

    The modes are matched one to one, so that the sum of their squared overlaps
    <u, v>^2 is the largest. Eigenvectors of coinciding eigenvalues are arbitrary, and
    so are their matches.

    Args:
      previous: one mode a column, orthonormal, shape (dim, dim).
      current: eigenvectors, one a column, shape (dim, dim).

    Returns:
      The column of `current` that is each mode's, shape (dim,): mode j went on as
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
    """Where each of some values stands when they are sorted.

    Args:
      values: of the modes, shape (dim,).

    Returns:
      `order` with `np.sort(values)[order] == values`, shape (dim,): the one that
      `match_modes` gave when the values were ascending eigenvalues.
    """
    order = np.empty(len(values), int)
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    return order
