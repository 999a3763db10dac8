"""A linear classifier on frozen features, trained to convergence."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import Array

from isojax.data import Split, hold_out
from isojax.progress import SILENT, Advance, Progress

# L2 penalties to choose from, on normalised features, strongest first so that each
# fit starts from the one before.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_HELD_OUT = 0.2
_MAX_ITERATIONS = 500
# Beyond these, as with pixels for features, the curvature costs more than it saves.
_MOST_FEATURES = 1024
_FEWEST_IMAGES_A_FEATURE = 10
_BLOCK_ROWS = 4096  # of features whose deviations are in memory at one time


class LinearReadout(NamedTuple):
    """A fitted classifier and how well it does.

    Attributes:
      weights: (features + 1, classes) on normalised features, the bias last.
      penalty: the L2 penalty that was chosen.
      validation_accuracy: on the held-out part of the training images, of the fit that
        did not see it.
        None where too few images are labelled to hold any out.
      accuracy: on the test images.
      predictions: the class of each test image, shape (m,).
    """

    weights: np.ndarray
    penalty: float
    validation_accuracy: float | None
    accuracy: float
    predictions: np.ndarray


def fit_linear_readout(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    progress: Progress = SILENT,
) -> LinearReadout:
    """Multinomial logistic regression with its penalty chosen on training images.

    A fifth of each class is held out to choose the penalty; the classifier is then
    fitted to all training images and classifies the test images once. Where no class
    has the three images that leave one to hold out, the strongest penalty is used.

    Features are centred and divided by one number, the root mean square of their
    deviations. Dividing each feature by its own deviation would amplify those that
    hardly vary in a few images, such as pixels at the border.

    Args:
      features: of the training images, shape (n, features).
      labels: shape (n,), integers from 0.
      test_features: shape (m, features).
      test_labels: shape (m,).
      progress: reports the fits.

    Returns:
      The classifier and its accuracies.
    """
    with progress.phase(
        "linear readout", total=len(PENALTIES) + 1, unit="fits"
    ) as advance:
        penalty, start, validation_accuracy = _choose_penalty(features, labels, advance)
        mean, scale = _moments(features)
        inputs = _normalize(features, mean, scale)
        (weights,) = _fit_path(inputs, labels, [penalty], start=start, advance=advance)
    predictions = _classify(weights, _normalize(test_features, mean, scale))
    return LinearReadout(
        weights,
        penalty=penalty,
        validation_accuracy=validation_accuracy,
        accuracy=_accuracy(predictions, test_labels),
        predictions=predictions,
    )


def _choose_penalty(
    features: np.ndarray, labels: np.ndarray, advance: Advance
) -> tuple[float, np.ndarray, float | None]:
    """Chooses on a held-out fifth, which no fit here is trained on.

    Returns:
      The penalty, the weights fitted with it, and their accuracy on the held-out part;
      where no image can be held out, the strongest penalty, zero weights and None.
    """
    # `hold_out` needs only rows, so features stand in for images.
    fitting, held = hold_out(Split(features, labels), _HELD_OUT)
    if not len(held.labels):
        advance(len(PENALTIES))
        shape = (features.shape[1] + 1, int(labels.max()) + 1)
        return PENALTIES[0], np.zeros(shape), None
    mean, scale = _moments(fitting.images)
    inputs = _normalize(fitting.images, mean, scale)
    path = _fit_path(inputs, fitting.labels, PENALTIES, advance=advance)
    inputs = _normalize(held.images, mean, scale)
    accuracies = [_accuracy(_classify(w, inputs), held.labels) for w in path]
    best = int(np.argmax(accuracies))  # the strongest penalty among equals
    return PENALTIES[best], path[best], accuracies[best]


def _moments(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of each feature, (features,), and one standard deviation for all."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    blocks = np.array_split(features, -(-len(features) // _BLOCK_ROWS))
    squares = sum(np.square(b - mean).sum(dtype=np.float64) for b in blocks)
    return mean, float(np.sqrt(squares / features.size)) or 1.0


def _normalize(features: np.ndarray, mean: np.ndarray, scale: float) -> np.ndarray:
    """Centred and scaled features with a column of ones for the bias, float32."""
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
    """For each penalty the weights that minimise `_objective`.

    L-BFGS in coordinates V, weights = P V, in which the loss is about equally curved
    along all directions: P Pᵀ is the inverse of its curvature where every class has the
    same probability. Without it, correlated features take two to three times as many
    steps. `advance` is called with 0 after each evaluation and with 1 after each fit.
    """
    classes = int(labels.max()) + 1
    on_device = jax.device_put((inputs, labels))
    weights = np.zeros((inputs.shape[1], classes)) if start is None else start
    gram = None
    if inputs.shape[1] <= min(_MOST_FEATURES, len(inputs) // _FEWEST_IMAGES_A_FEATURE):
        gram = np.asarray(_gram(on_device[0]), np.float64) * (1 - 1 / classes) / classes
    path = []
    for penalty in penalties:
        if gram is None:
            weights = _minimize(weights, None, *on_device, penalty, advance)
        else:
            # With what rounding may have taken from the smallest eigenvalues.
            ridge = np.full(len(gram), penalty) + 1e-6 * np.trace(gram)
            factor = np.linalg.cholesky(gram + np.diag(ridge))
            transform = np.linalg.inv(factor.T)
            start = factor.T @ weights
            weights = transform @ _minimize(
                start, transform, *on_device, penalty, advance
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
    """Mean cross-entropy + penalty/2 · ‖weights‖², bias free."""
    # GPUs would round the factors to 10 bits, and the search would end early.
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


def _accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(predictions == labels))
