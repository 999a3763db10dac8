"""Few labels: part of the labelled images."""

import numpy as np


def labelled_part(labels: np.ndarray, fraction: float, *, seed: int = 0) -> np.ndarray:
    """Which images keep their label, the same part of every class.

    A smaller fraction of the same seed chooses among those of a larger one.

    Args:
      labels: shape (n,), integers from 0.
      fraction: part to choose, above 0 and at most 1; of each class at least one image.
      seed: of the choice.

    Returns:
      Indices, ascending.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))
