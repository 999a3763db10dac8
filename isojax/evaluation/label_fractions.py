"""Subsets of the labelled images, for evaluation with few labels."""

import numpy as np


def labelled_part(labels: np.ndarray, fraction: float, *, seed: int = 0) -> np.ndarray:
    """Selects the same fraction of the images of every class.

    With the same seed, the images of a smaller fraction are a subset of those of a
    larger one.

    Args:
      labels: the classes of the images, shape (n,), integers from 0.
      fraction: the fraction, above 0 and at most 1; at least one image of each class is
        chosen.
      seed: the seed of the choice.

    Returns:
      The indices of the chosen images, ascending, integers.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))
