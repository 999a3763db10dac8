"""A linear classifier on frozen features, trained to convergence."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import Array

from isojax import data_parallel
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
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_MAX_ITERATIONS = 500
# With more features, such as pixels, computing the curvature takes more time than it
# saves.
_MOST_FEATURES = 1024
_FEWEST_IMAGES_A_FEATURE = 10
_SUMS = 64  # partial sums of the losses
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

    Every device holds a part of the training images. If there are several processes,
    all of them must call this function with the same arguments.

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
    """Returns the weights that minimise the objective, for each penalty.

    L-BFGS works in coordinates V with weights = P V, in which the loss has about the
    same curvature along all directions: P Pᵀ is the inverse of its curvature where
    every class has the same probability. Without P, correlated features need two to
    three times as many steps. `advance` is called with 0 after each evaluation and with
    1 after each fit.
    """
    classes = int(labels.max()) + 1
    rows = data_parallel.split_rows({"inputs": inputs, "labels": labels})
    weights = np.zeros((inputs.shape[1], classes)) if start is None else start
    gram = None
    if inputs.shape[1] <= min(_MOST_FEATURES, len(inputs) // _FEWEST_IMAGES_A_FEATURE):
        scale = np.float32((1 - 1 / classes) / classes / len(inputs))
        gram = np.asarray(_scaled_products(scale, rows), np.float64)
    minimize = partial(_minimize, rows=rows, count=len(inputs), advance=advance)
    path = []
    for penalty in penalties:
        if gram is None:
            weights = minimize(weights, None, penalty)
        else:
            # The second term keeps eigenvalues positive that rounding makes negative.
            ridge = np.full(len(gram), penalty) + 1e-6 * np.trace(gram)
            factor = np.linalg.cholesky(gram + np.diag(ridge))
            transform = np.linalg.inv(factor.T)
            start = factor.T @ weights
            weights = transform @ minimize(start, transform, penalty)
        path.append(weights)
        advance(1)
    return path


def _minimize(
    start: np.ndarray,
    transform: np.ndarray | None,
    penalty: float,
    *,
    rows: Mapping[str, Array],
    count: int,
    advance: Advance,
) -> np.ndarray:
    """Runs L-BFGS on the host, the same in every process, from coordinates `start`."""
    constants: dict[str, Any] = {"penalty": np.float32(penalty)}
    constants["count"] = np.float32(count)
    if transform is not None:
        constants["transform"] = transform.astype(np.float32)
    constants = data_parallel.replicate(constants)

    def objective(flat):
        coordinates = flat.reshape(start.shape).astype(np.float32)
        (sums, norms), gradient = _value_and_gradient(
            constants | {"coordinates": coordinates}, rows
        )
        advance(0)
        # Sums in float32 would hide the last, small decreases.
        loss = np.asarray(sums, np.float64).sum() / count
        value = loss + 0.5 * penalty * np.asarray(norms, np.float64).sum()
        return value, np.asarray(gradient, np.float64).ravel()

    result = scipy.optimize.minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS},
    )
    return result.x.reshape(start.shape)


@partial(data_parallel.MappedFunction, adds=True)
def _value_and_gradient(
    shared: Mapping[str, Array], rows: Mapping[str, Array]
) -> tuple[tuple[Array, Array], Array]:
    """Returns a device's part of the objective, and of its gradient.

    The objective is the mean cross-entropy + penalty/2 · ‖weights‖², without the bias
    in the norm.

    Args:
      shared: `coordinates`, shape (features + 1, classes); `transform`, the matrix that
        multiplies them, which may be missing; the `penalty`; the `count` of all rows.
      rows: the rows of the device, as `data_parallel.split_rows` returns them.

    Returns:
      Sums of cross-entropies, shape (_SUMS,), and the squared norm of each row of
      weights, shape (features,); the gradient, in the shape of the coordinates.
    """
    devices = jax.lax.axis_size(data_parallel.AXIS)

    def objective(coordinates: Array) -> tuple[Array, tuple[Array, Array]]:
        weights = coordinates
        # By default GPUs round the factors to 10 bits, and L-BFGS would stop early.
        if "transform" in shared:
            weights = jnp.matmul(shared["transform"], weights, precision="highest")
        logits = jnp.matmul(rows["inputs"], weights, precision="highest")
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows["labels"])
        if "counted" in rows:
            losses *= rows["counted"]
        sums = jnp.pad(losses, (0, -len(losses) % _SUMS)).reshape(_SUMS, -1).sum(axis=1)
        norms = jnp.square(weights[:-1]).sum(axis=1) / devices
        value = sums.sum() / shared["count"] + 0.5 * shared["penalty"] * norms.sum()
        return value, (sums, norms)

    gradient, parts = jax.grad(objective, has_aux=True)(shared["coordinates"])
    return parts, gradient


@partial(data_parallel.MappedFunction, adds=True)
def _scaled_products(scale: Array, rows: Mapping[str, Array]) -> Array:
    """A device's part of scale · inputsᵀ inputs. Rows that fill up are zero."""
    inputs = rows["inputs"]
    return scale * jnp.matmul(inputs.T, inputs, precision="highest")


def _classify(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return (inputs @ weights.astype(np.float32)).argmax(axis=1)
