"""What is read from a frozen encoder's features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isojax.evaluation.knn import knn_accuracy
from isojax.evaluation.linear import LinearReadout, fit_linear_readout

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
    sets: FeatureSets, protocols: Sequence[str]
) -> tuple[dict[str, Any], LinearReadout | None]:
    """Accuracies of those protocols that need features alone.

    Args:
      sets: of one encoder.
      protocols: "linear" and "knn" are measured, others passed over.

    Returns:
      `accuracy` and `knn_accuracy`, each if its protocol is asked for, and the linear
      readout, if any.
    """
    found, readout = {}, None
    if "linear" in protocols:
        readout = fit_linear_readout(*sets)
        found["accuracy"] = readout.accuracy
    if "knn" in protocols:
        found["knn_accuracy"] = {str(k): knn_accuracy(*sets, k=k) for k in NEIGHBOURS}
    return found, readout
