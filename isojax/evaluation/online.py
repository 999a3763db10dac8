"""Accuracy of the online probe, a linear classifier trained during pretraining."""

import jax.numpy as jnp
import numpy as np

from isojax.evaluation.held_out import accuracy_of
from isojax.evaluation.protocols import Measurement, ProtocolInputs
from isojax.progress import Progress
from isojax.training.encoder import load_probe
from isojax.training.probe import probe_logits


def measure(inputs: ProtocolInputs, progress: Progress) -> Measurement:
    """Measures the accuracy of the online probe; see `isojax.evaluation.protocols`.

    Raises:
      UsageError: if the run was trained without a probe.
    """
    del progress
    weights = load_probe(
        inputs.workdir,
        inputs.step,
        features=inputs.features.shape[1],
        classes=inputs.dataset.num_classes,
    )
    logits = probe_logits(weights, jnp.asarray(inputs.test_features))
    predictions = np.asarray(logits.argmax(axis=-1))
    return Measurement(
        {"online_accuracy": accuracy_of(predictions, inputs.test.labels)}
    )
