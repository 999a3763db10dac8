"""Accuracy of the online probe, a linear classifier trained during pretraining."""

import jax.numpy as jnp
import numpy as np

from isojax.errors import UsageError
from isojax.evaluation.held_out import accuracy_of
from isojax.evaluation.protocols import Measurement, ProtocolInputs
from isojax.progress import Progress
from isojax.training.encoder import load_probe
from isojax.training.probe import probe_logits


def measure(inputs: ProtocolInputs, progress: Progress) -> Measurement:
    """Measures the accuracy of the online probe; see `isojax.evaluation.protocols`.

    Raises:
      UsageError: if the run was trained without labels or on other classes.
    """
    del progress
    classes = inputs.dataset.num_classes
    try:
        weights = load_probe(
            inputs.workdir,
            inputs.step,
            features=inputs.features.shape[1],
            classes=classes,
        )
    except UsageError as error:
        raise UsageError(
            f"--protocol=online needs a probe of {classes} classes, which this run "
            f"does not have ({error}); leave it out"
        ) from error
    logits = probe_logits(weights, jnp.asarray(inputs.test_features))
    predictions = np.asarray(logits.argmax(axis=-1))
    return Measurement(
        {"online_accuracy": accuracy_of(predictions, inputs.test.labels)}
    )
