"""A linear classifier on frozen features, trained to convergence."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import Array

from isojax.data import Dataset, Split
from isojax.data.dataset import ImageArray
from isojax.evaluation.held_out import (
    CHOSEN_ON,
    accuracy_of,
    choose_setting,
    hold_out_fifth,
)
from isojax.evaluation.protocols import Measurement, ProtocolInputs
from isojax.progress import SILENT, Advance, Progress

# L2 penalties to choose from, on normalised features. The strongest comes first, so
# that each fit starts from the one before.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_MAX_ITERATIONS = 500
# With more features, such as pixels, computing the curvature takes more time than it
# saves.
_MOST_FEATURES = 1024
_FEWEST_IMAGES_A_FEATURE = 10
_BLOCK_ROWS = 4096  # rows of features whose deviations are in memory at a time


class LinearReadout(NamedTuple):
    """A fitted linear classifier and its accuracies.

    Attributes:
      weights: the weights on normalised features, shape (features + 1, classes), the
        bias last.
      penalty: the chosen L2 penalty.
      validation_accuracy: the accuracy on the held-out part of the training images, of
        a fit without them; None if there are too few labelled images to hold any out.
      accuracy: the accuracy on the test images.
      predictions: the predicted class of each test image, shape (m,).
    """

    weights: np.ndarray
    penalty: float
    validation_accuracy: float | None
    accuracy: float
    predictions: np.ndarray


def measure(inputs: ProtocolInputs, progress: Progress) -> Measurement:
    """Measures the linear readout; see `isojax.evaluation.protocols`."""
    readout = fit_linear_readout(
        inputs.features,
        inputs.train.labels,
        inputs.test_features,
        inputs.test.labels,
        progress=progress,
    )
    return Measurement(
        {"accuracy": readout.accuracy},
        {"penalty": readout.penalty},
        {
            "penalty_chosen_on": CHOSEN_ON,
            "validation_accuracy": readout.validation_accuracy,
            "per_class_accuracy": _per_class(readout.predictions, inputs.dataset),
        },
        readout.predictions,
    )


def fit_linear_readout(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    progress: Progress = SILENT,
) -> LinearReadout:
    """Fits a multinomial logistic regression and chooses its penalty.

    A fifth of each class is held out to choose the penalty; the classifier is then
    fitted to all training images and evaluated on the test images once. If no class has
    the three images that are needed to hold one out, the strongest penalty is used.

    Features are centred and divided by one number, the root mean square of their
    deviations. Dividing each feature by its own deviation would amplify features that
    hardly vary in a few images, such as pixels at the border.

    Args:
      features: features of the training images, shape (n, features).
      labels: their classes, shape (n,), integers from 0.
      test_features: features of the test images, shape (m, features).
      test_labels: their classes, shape (m,).
      progress: reports the fits.

    Returns:
      The classifier and its accuracies.
    """
    # Holding out only indexes rows, so it works on features as on images.
    train = Split(features, labels)
    with progress.phase(
        "linear readout", total=len(PENALTIES) + 1, unit="fits"
    ) as advance:
        fit = partial(_fit_classifiers, advance=advance)
        fitting, held_out = hold_out_fifth(train)
        choice = choose_setting(
            PENALTIES, fitting, held_out, fit=fit, classify=_Classifier.classify
        )
        if choice.model is None:
            advance(len(PENALTIES))
        start = None if choice.model is None else choice.model.weights
        (classifier,) = fit(train, [choice.setting], start=start)
    predictions = classifier.classify(test_features)
    return LinearReadout(
        classifier.weights,
        penalty=choice.setting,
        validation_accuracy=choice.accuracy,
        accuracy=accuracy_of(predictions, test_labels),
        predictions=predictions,
    )


class _Classifier(NamedTuple):
    """Weights (features + 1, classes), and the moments that normalise features."""

    weights: np.ndarray
    mean: np.ndarray
    scale: float

    def classify(self, features: ImageArray) -> np.ndarray:
        inputs = _normalize(np.asarray(features), self.mean, self.scale)
        return _classify(self.weights, inputs)


def _fit_classifiers(
    train: Split,
    penalties: Sequence[float],
    *,
    start: np.ndarray | None = None,
    advance: Advance,
) -> Iterator[_Classifier]:
    """Yields the classifier of each penalty, fitted to `train.images`, its features."""
    features = np.asarray(train.images)
    mean, scale = _moments(features)
    inputs = _normalize(features, mean, scale)
    path = _fit_path(inputs, train.labels, penalties, start=start, advance=advance)
    for weights in path:
        yield _Classifier(weights, mean, scale)


def _per_class(predictions: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Returns the accuracy on each class that has test images, by its name."""
    labels = dataset.evaluation.labels
    is_correct = predictions == labels
    return {
        dataset.label_names[label]: float(np.mean(is_correct[labels == label]))
        for label in np.unique(labels)
    }


def _moments(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the mean of each feature, and one standard deviation for all."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    blocks = np.array_split(features, -(-len(features) // _BLOCK_ROWS))
    squares = sum(np.square(b - mean).sum(dtype=np.float64) for b in blocks)
    return mean, float(np.sqrt(squares / features.size)) or 1.0


def _normalize(features: np.ndarray, mean: np.ndarray, scale: float) -> np.ndarray:
    """Centres and scales features, and adds a column of ones for the bias; float32."""
    inputs = np.ones((len(features), features.shape[1] + 1), np.float32)
    np.subtract(features, mean, out=inputs[:, :-1], casting="same_kind")
    inputs[:, :-1] /= scale
    return inputs


def _fit_path(
    inputs: np.ndarray,
    labels: np.ndarray,
    penalties: Sequence[float],
    *,
    start: np.ndarray | None = None,
    advance: Advance,
) -> list[np.ndarray]:
    """Returns the weights that minimise `_objective`, for each penalty.

    L-BFGS works in coordinates V with weights = P V, in which the loss has about the
    same curvature along all directions: P Pᵀ is the inverse of its curvature where
    every class has the same probability. Without P, correlated features need two to
    three times as many steps. `advance` is called with 0 after each evaluation and with
    1 after each fit.
    """
    classes = int(labels.max()) + 1
    device_inputs, device_labels = jax.device_put((inputs, labels))
    weights = np.zeros((inputs.shape[1], classes)) if start is None else start
    gram = None
    if inputs.shape[1] <= min(_MOST_FEATURES, len(inputs) // _FEWEST_IMAGES_A_FEATURE):
        gram = (
            np.asarray(_gram(device_inputs), np.float64) * (1 - 1 / classes) / classes
        )
    path = []
    for penalty in penalties:
        if gram is None:
            weights = _minimize(
                weights, None, device_inputs, device_labels, penalty, advance
            )
        else:
            # The second term keeps eigenvalues positive that rounding makes negative.
            ridge = np.full(len(gram), penalty) + 1e-6 * np.trace(gram)
            factor = np.linalg.cholesky(gram + np.diag(ridge))
            transform = np.linalg.inv(factor.T)
            start = factor.T @ weights
            weights = transform @ _minimize(
                start, transform, device_inputs, device_labels, penalty, advance
            )
        path.append(weights)
        advance(1)
    return path


def _minimize(
    start: np.ndarray,
    transform: np.ndarray | None,
    inputs: Array,
    labels: Array,
    penalty: float,
    advance: Advance,
) -> np.ndarray:
    if transform is not None:
        transform = jax.device_put(transform.astype(np.float32))

    def objective(flat):
        coordinates = flat.reshape(start.shape).astype(np.float32)
        value, gradient = _value_and_gradient(
            coordinates, transform, inputs, labels, penalty
        )
        advance(0)
        return float(value), np.asarray(gradient, np.float64).ravel()

    result = scipy.optimize.minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS},
    )
    return result.x.reshape(start.shape)


def _objective(weights: Array, inputs: Array, labels: Array, penalty: float) -> Array:
    """Mean cross-entropy + penalty/2 · ‖weights‖², without the bias in the norm."""
    # By default GPUs round the factors to 10 bits, and L-BFGS would stop early.
    logits = jnp.matmul(inputs, weights, precision="highest")
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean() + 0.5 * penalty * jnp.sum(jnp.square(weights[:-1]))


@jax.jit
@jax.value_and_grad
def _value_and_gradient(coordinates, transform, inputs, labels, penalty):
    weights = coordinates
    if transform is not None:
        weights = jnp.matmul(transform, coordinates, precision="highest")
    return _objective(weights, inputs, labels, penalty)


@jax.jit
def _gram(inputs: Array) -> Array:
    return jnp.matmul(inputs.T, inputs, precision="highest") / len(inputs)


def _classify(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return (inputs @ weights.astype(np.float32)).argmax(axis=1)
