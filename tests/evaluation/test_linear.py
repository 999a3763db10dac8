import numpy as np
import pytest

from isojax.evaluation import fit_linear_readout, linear


def blobs(n, *, seed, spread):
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 3
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 0.1]])
    noise = rng.normal(size=(n, 2)) * [100.0, 0.1] * spread
    return (centres[labels] + noise).astype(np.float32), labels


def test_separable_classes_are_read_out_whatever_the_features_scale():
    readout = fit_linear_readout(
        *blobs(150, seed=0, spread=0.05), *blobs(60, seed=1, spread=0.05)
    )
    assert readout.accuracy == 1.0
    assert readout.validation_accuracy == 1.0
    assert readout.weights.shape == (3, 3)


def test_the_fit_is_converged_and_penalised_as_stated():
    features, labels = blobs(90, seed=0, spread=0.5)
    inputs = linear._standardize(features, *linear._moments(features))
    weights = linear._fit(inputs, labels, 0.1)
    _, gradient = linear._value_and_gradient(
        weights.astype(np.float32), inputs, labels, 0.1
    )
    assert np.abs(gradient).max() < 1e-4
    # The gradient by hand: softmax minus one-hot, plus penalty on all but the bias.
    logits = inputs @ weights
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    residual = (softmax - np.eye(3)[labels]) / len(labels)
    by_hand = inputs.T @ residual + 0.1 * weights * [[1], [1], [0]]
    np.testing.assert_allclose(gradient, by_hand, atol=1e-5)


def test_the_penalty_is_chosen_without_the_test_images():
    train, test = blobs(90, seed=0, spread=0.7), blobs(60, seed=1, spread=0.7)
    readout = fit_linear_readout(*train, *test)
    scrambled = fit_linear_readout(*train, test[0][::-1], test[1])
    assert scrambled.penalty == readout.penalty
    np.testing.assert_array_equal(scrambled.weights, readout.weights)
    assert scrambled.accuracy < readout.accuracy


def test_a_constant_feature_does_no_harm():
    features, labels = blobs(90, seed=0, spread=0.05)
    features = np.hstack([features, np.full((90, 1), 7.0, np.float32)])
    readout = fit_linear_readout(features, labels, features, labels)
    assert readout.accuracy == pytest.approx(1.0)
