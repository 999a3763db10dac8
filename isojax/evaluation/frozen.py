"""What is read from a frozen encoder's features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isojax.evaluation.knn import accuracy_by_votes, nearest_neighbours
from isojax.evaluation.linear import LinearReadout, fit_linear_readout
from isojax.progress import SILENT, Progress

NEIGHBOURS = (20, 200)


class FeatureSets(NamedTuple):
    """Features (n, features) and labels (n,) of the training and the test images."""

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray

    def part(self, indices: np.ndarray) -> "FeatureSets":
        """The same with some of the training images."""
        return self._replace(
            features=self.features[indices], labels=self.labels[indices]
        )


def measure_frozen(
    sets: FeatureSets, protocols: Sequence[str], *, progress: Progress = SILENT
) -> tuple[dict[str, Any], LinearReadout | None]:
    """Accuracies of the protocols that need features alone.

    Args:
      sets: features of one encoder.
      protocols: "linear" and "knn" are measured; others are ignored.
      progress: reports the fits and the search for neighbours.

    Returns:
      `accuracy` and `knn_accuracy` (by number of neighbours), each if its protocol is
      named, and the linear readout, if any.
    """
    found, readout = {}, None
    if "linear" in protocols:
        readout = fit_linear_readout(*sets, progress=progress)
        found["accuracy"] = readout.accuracy
    if "knn" in protocols:
        neighbours = nearest_neighbours(
            sets.features, sets.test_features, k=max(NEIGHBOURS), progress=progress
        )
        found["knn_accuracy"] = {
            str(k): accuracy_by_votes(neighbours, sets.labels, sets.test_labels, k=k)
            for k in NEIGHBOURS
        }
    return found, readout
