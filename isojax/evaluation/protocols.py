"""The evaluation protocols, by the names that the flag `--protocol` takes.

To add one, write a module of this package with a function `measure`, and enter it in
`PROTOCOLS`. Imports no JAX, so that `--help` is fast.
"""

import enum
import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from isojax.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

    from isojax.data import Dataset, Split
    from isojax.progress import Progress
    from isojax.training.encoder import Encoder


class ProtocolInputs(NamedTuple):
    """An encoder of a run, and the images that it is measured on.

    Attributes:
      workdir: the run's folder.
      step: the encoder's training step.
      augment: section `augment` of the run's config.
      dataset: the data set; `dataset.evaluation` holds the test images.
      encoder: the function from `(variables, images)` to features, and its variables.
      train: the labelled images that classifiers are trained on.
      features: the encoder's features of `train`, shape (n, features), float32.
      test_features: the encoder's features of the test images, shape (m, features).
    """

    workdir: str | os.PathLike
    step: int
    augment: "ConfigDict"
    dataset: "Dataset"
    encoder: "Encoder"
    train: "Split"
    features: "np.ndarray"
    test_features: "np.ndarray"

    @property
    def test(self) -> "Split":
        """The test images."""
        return self.dataset.evaluation

    def part(self, indices: "np.ndarray") -> "ProtocolInputs":
        """Returns a copy with only the labelled images of the given indices."""
        train = type(self.train)(self.train.images[indices], self.train.labels[indices])
        return self._replace(train=train, features=self.features[indices])


class Measurement(NamedTuple):
    """The result of a protocol.

    The dictionaries hold values that JSON can store, by their names in the result.

    Attributes:
      values: accuracies, which are stored for every encoder.
      chosen: settings that were chosen, which are stored for the run's encoder and for
        each fraction of the labels.
      details: values that are stored for the run's encoder with all labels.
      predictions: the class of each test image, shape (m,), if the result keeps them.
    """

    values: dict[str, Any]
    chosen: dict[str, Any] = {}
    details: dict[str, Any] = {}
    predictions: "np.ndarray | None" = None


class ProtocolKind(enum.Enum):
    """What a protocol needs, which decides what it is measured for."""

    # Trains a classifier on frozen features; also measured for the baselines.
    FROZEN = enum.auto()
    # Trains the encoder; not measured for the curve over checkpoints.
    TRAINS_ENCODER = enum.auto()
    # Reads a classifier stored in the run; measured with the run's own data only.
    STORED = enum.auto()


Measure = Callable[[ProtocolInputs, "Progress"], Measurement]


class Protocol(NamedTuple):
    """A way to measure an encoder.

    Attributes:
      module: the module of this package that defines `measure(inputs, progress)`.
      summary: a phrase for `--help`.
      kind: what the protocol needs.
    """

    module: str
    summary: str
    kind: ProtocolKind

    @property
    def measure(self) -> Measure:
        """The function that measures an encoder."""
        return importlib.import_module(f"{__package__}.{self.module}").measure


PROTOCOLS = {
    "linear": Protocol("linear", "a linear classifier", ProtocolKind.FROZEN),
    "knn": Protocol("knn", "k nearest neighbours", ProtocolKind.FROZEN),
    "finetune": Protocol(
        "finetuning", "the encoder trained with labels", ProtocolKind.TRAINS_ENCODER
    ),
    "online": Protocol(
        "online", "the linear probe trained during pretraining", ProtocolKind.STORED
    ),
}
DEFAULT_PROTOCOLS = ("linear", "knn")


def find_protocol(name: str) -> Protocol:
    """Looks up a protocol by name.

    Raises:
      UsageError: if the name is unknown.
    """
    if name not in PROTOCOLS:
        raise UsageError(
            f"there is no protocol {name!r}; choose from {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]
