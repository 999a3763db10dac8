"""Inputs of the evaluation protocols, built from features without an encoder."""

import numpy as np
from ml_collections import ConfigDict

from isojax.data import Dataset, Split
from isojax.evaluation.protocols import ProtocolInputs


def inputs_of(features, labels, test_features, test_labels):
    """Returns inputs with the given features; its images are their row numbers."""
    classes = int(max(labels.max(), test_labels.max())) + 1
    train, test = (
        Split(np.arange(len(part)).reshape(-1, 1, 1, 1), part)
        for part in (labels, test_labels)
    )
    names = tuple(f"class {number}" for number in range(classes))
    dataset = Dataset(train, train, test, "test", classes, names)
    return ProtocolInputs(
        "unused", 0, ConfigDict(), dataset, (None, {}), train, features, test_features
    )
