"""Eigenvalues for a logarithmic axis."""

import numpy as np

_SMALLEST = 1e-9  # of the largest; below is rounding


def floored(eigenvalues: np.ndarray) -> np.ndarray:
    """Raises eigenvalues that rounding left near or below zero; any shape."""
    return np.maximum(eigenvalues, max(np.nanmax(eigenvalues), 1e-30) * _SMALLEST)
