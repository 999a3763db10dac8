import numpy as np
import pytest

from isojax.evaluation import fit_linear_readout, linear


def blobs(n, *, seed, spread):
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 3
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 0.1]])
    noise = rng.normal(size=(n, 2)) * [100.0, 0.1] * spread
    return (centres[labels] + noise).astype(np.float32), labels


def gradient_by_hand(weights, inputs, labels, penalty):
    """In float64: softmax minus one-hot, plus penalty on all but the bias."""
    inputs = inputs.astype(np.float64)
    logits = inputs @ weights
    logits -= logits.max(axis=1, keepdims=True)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    residual = (softmax - np.eye(weights.shape[1])[labels]) / len(labels)
    return inputs.T @ residual + penalty * np.vstack([weights[:-1], 0 * weights[-1:]])


def test_separable_classes_are_read_out_whatever_the_features_scale():
    test_features, test_labels = blobs(60, seed=1, spread=0.05)
    readout = fit_linear_readout(
        *blobs(150, seed=0, spread=0.05), test_features, test_labels
    )
    assert readout.accuracy == 1.0
    assert readout.validation_accuracy == 1.0
    assert readout.weights.shape == (3, 3)
    np.testing.assert_array_equal(readout.predictions, test_labels)


@pytest.mark.parametrize("most_features", [1024, 0])
def test_every_fit_is_at_its_optimum_on_correlated_features(monkeypatch, most_features):
    monkeypatch.setattr(linear, "_MOST_FEATURES", most_features)
    rng = np.random.default_rng(0)
    labels = np.arange(600, dtype=np.int32) % 4
    scales = np.arange(1, 31) ** -1.0
    hidden = rng.normal(size=(4, 30))[labels] + 2 * rng.normal(size=(600, 30))
    mixing = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    features = ((hidden * scales) @ mixing).astype(np.float32)
    inputs = linear._standardize(features, *linear._moments(features))
    path = linear._fit_path(inputs, labels, linear.PENALTIES)
    assert len(path) == len(linear.PENALTIES)
    for penalty, weights in zip(linear.PENALTIES, path, strict=True):
        gradient = gradient_by_hand(weights, inputs, labels, penalty)
        assert np.abs(gradient).max() < 1e-4, penalty


def test_the_optimum_is_the_same_from_any_start():
    features, labels = blobs(90, seed=0, spread=0.5)
    inputs = linear._standardize(features, *linear._moments(features))
    (cold,) = linear._fit_path(inputs, labels, [0.1])
    (warm,) = linear._fit_path(inputs, labels, [0.1], start=cold + 1.0)
    np.testing.assert_allclose(warm[:-1], cold[:-1], atol=1e-3)


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


def test_one_image_a_class_is_enough():
    train, test = blobs(3, seed=0, spread=0.05), blobs(60, seed=1, spread=0.05)
    readout = fit_linear_readout(*train, *test)
    assert readout.validation_accuracy is None
    assert readout.penalty == linear.PENALTIES[0]
    assert readout.accuracy == 1.0
