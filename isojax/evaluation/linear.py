"""A linear classifier on frozen features, trained to convergence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

from isojax.data import Split, hold_out

# L2 penalties to choose from, on standardised features, strongest first so that each
# fit starts from the one before.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_HELD_OUT = 0.2
_MAX_ITERATIONS = 500


class LinearReadout(NamedTuple):
    """A fitted classifier and how well it does.

    Attributes:
      weights: (features + 1, classes) on standardised features, the bias last.
      penalty: the L2 penalty that was chosen.
      validation_accuracy: on the held-out part of the training images, of the fit that
        did not see it.
      accuracy: on the test images.
      predictions: classes of the test images, shape (m,).
    """

    weights: np.ndarray
    penalty: float
    validation_accuracy: float
    accuracy: float
    predictions: np.ndarray


def fit_linear_readout(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
) -> LinearReadout:
    """Multinomial logistic regression with its penalty chosen on training images.

    A fifth of each class is held out to choose the penalty; the classifier is then
    fitted again on all training images and meets the test images once.

    Args:
      features: of the training images, shape (n, features).
      labels: shape (n,), integers from 0.
      test_features: shape (m, features).
      test_labels: shape (m,).

    Returns:
      The classifier and its accuracies.
    """
    # `hold_out` asks only for rows, so features stand in for images.
    fitting, held = hold_out(Split(features, labels), _HELD_OUT)
    mean, std = _moments(fitting.images)
    inputs, held_inputs = (
        _standardize(split.images, mean, std) for split in (fitting, held)
    )
    weights, accuracies = None, []
    for penalty in PENALTIES:
        weights = _fit(inputs, fitting.labels, penalty, start=weights)
        accuracies.append(float(np.mean(_predict(weights, held_inputs) == held.labels)))
    best = int(np.argmax(accuracies))  # the strongest penalty among equals

    mean, std = _moments(features)
    weights = _fit(_standardize(features, mean, std), labels, PENALTIES[best])
    predictions = _predict(weights, _standardize(test_features, mean, std))
    return LinearReadout(
        weights,
        penalty=float(PENALTIES[best]),
        validation_accuracy=accuracies[best],
        accuracy=float(np.mean(predictions == test_labels)),
        predictions=predictions,
    )


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    std = features.std(axis=0)
    return features.mean(axis=0), np.where(std > 0, std, 1.0)


def _standardize(features: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Standardised features with a column of ones for the bias, float32."""
    ones = np.ones((len(features), 1), np.float32)
    standardized = (features - mean) / std
    return np.hstack([standardized.astype(np.float32), ones])


def _fit(
    inputs: np.ndarray,
    labels: np.ndarray,
    penalty: float,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Weights that minimise mean cross-entropy + penalty/2 · ‖weights‖², bias free."""
    shape = (inputs.shape[1], int(labels.max()) + 1)

    def objective(flat):
        value, gradient = _value_and_gradient(
            flat.reshape(shape).astype(np.float32), inputs, labels, penalty
        )
        return float(value), np.asarray(gradient, np.float64).ravel()

    result = scipy.optimize.minimize(
        objective,
        np.zeros(shape).ravel() if start is None else start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS},
    )
    return result.x.reshape(shape)


@jax.jit
@jax.value_and_grad
def _value_and_gradient(weights, inputs, labels, penalty):
    losses = optax.softmax_cross_entropy_with_integer_labels(inputs @ weights, labels)
    return losses.mean() + 0.5 * penalty * jnp.sum(jnp.square(weights[:-1]))


def _predict(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return (inputs @ weights).argmax(axis=1)
