import numpy as np
import pytest

from isojax.data import Split, hold_out
from isojax.data.digits import load_digits
from isojax.evaluation import fit_linear_readout, linear
from isojax.evaluation.label_fractions import labelled_part


def blobs(n, *, seed, spread, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 3
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    features = centres[labels] + spread * rng.normal(size=(n, 2))
    return (scale * (features + 3.0)).astype(np.float32), labels


def gradient_by_hand(weights, inputs, labels, penalty):
    """In float64: softmax minus one-hot, plus penalty on all but the bias."""
    inputs = inputs.astype(np.float64)
    logits = inputs @ weights
    logits -= logits.max(axis=1, keepdims=True)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    residual = (softmax - np.eye(weights.shape[1])[labels]) / len(labels)
    return inputs.T @ residual + penalty * np.vstack([weights[:-1], 0 * weights[-1:]])


def fit_path(inputs, labels, penalties, **start):
    return linear._fit_path(inputs, labels, penalties, advance=lambda _: None, **start)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_separable_classes_are_read_out_whatever_the_features_scale(scale):
    test_features, test_labels = blobs(60, seed=1, spread=0.05, scale=scale)
    readout = fit_linear_readout(
        *blobs(150, seed=0, spread=0.05, scale=scale), test_features, test_labels
    )
    assert readout.accuracy == 1.0
    assert readout.validation_accuracy == 1.0
    assert readout.weights.shape == (3, 3)
    np.testing.assert_array_equal(readout.predictions, test_labels)


def test_all_features_are_divided_by_one_number():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, -500.0]
    features = features.astype(np.float32)
    mean, scale = linear._moments(features)
    inputs = linear._normalize(features, mean, scale)
    exact = features.astype(np.float64)
    deviations = exact.std(axis=0)
    assert scale == pytest.approx(np.sqrt(np.mean(deviations**2)), rel=1e-5)
    np.testing.assert_allclose(inputs[:, :3].std(axis=0), deviations / scale, rtol=1e-4)
    np.testing.assert_allclose(inputs[:, :3].mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_array_equal(inputs[:, 3], 1.0)


def test_few_labels_of_raw_pixels_are_read_as_well_as_by_an_unscaled_classifier():
    # scikit-learn's LogisticRegression(C=0.1) on pixels in [0, 1] reaches 0.454 on the
    # mean of eight such choices of one image a class.
    digits = load_digits()
    images, test_images = (
        digits[f"{split}_images"].reshape(-1, 784).astype(np.float32)
        for split in ("train", "test")
    )
    labels, test_labels = (
        digits[f"{split}_labels"].astype(np.int32) for split in ("train", "test")
    )
    accuracies = []
    for seed in range(8):
        chosen = labelled_part(labels, 0.0025, seed=seed)
        readout = fit_linear_readout(
            images[chosen], labels[chosen], test_images, test_labels
        )
        accuracies.append(readout.accuracy)
    assert len(chosen) == 10
    assert np.mean(accuracies) == pytest.approx(0.454, abs=0.01)


@pytest.mark.parametrize("most_features", [1024, 0])
def test_every_fit_is_at_its_optimum_on_correlated_features(monkeypatch, most_features):
    monkeypatch.setattr(linear, "_MOST_FEATURES", most_features)
    rng = np.random.default_rng(0)
    labels = np.arange(600, dtype=np.int32) % 4
    scales = np.arange(1, 31) ** -1.0
    hidden = rng.normal(size=(4, 30))[labels] + 2 * rng.normal(size=(600, 30))
    mixing = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    features = ((hidden * scales) @ mixing).astype(np.float32)
    inputs = linear._normalize(features, *linear._moments(features))
    path = fit_path(inputs, labels, linear.PENALTIES)
    assert len(path) == len(linear.PENALTIES)
    for penalty, weights in zip(linear.PENALTIES, path, strict=True):
        gradient = gradient_by_hand(weights, inputs, labels, penalty)
        assert np.abs(gradient).max() < 1e-4, penalty


def test_the_preconditioner_inverts_the_curvature_at_equal_probabilities(monkeypatch):
    transforms = []

    def minimize(start, transform, penalty, **_):
        transforms.append(transform)
        return start

    monkeypatch.setattr(linear, "_minimize", minimize)
    features, labels = blobs(90, seed=0, spread=0.5)
    inputs = linear._normalize(features, *linear._moments(features))
    fit_path(inputs, labels, [0.1])
    # The second derivative of a class's cross-entropy is p (1 - p), at p = 1/3.
    curvature = 2 / 9 * inputs.T @ inputs / len(inputs) + 0.1 * np.eye(3)
    (transform,) = transforms
    np.testing.assert_allclose(
        transform @ transform.T @ curvature, np.eye(3), atol=1e-4
    )


def test_the_optimum_is_the_same_from_any_start():
    features, labels = blobs(90, seed=0, spread=0.5)
    inputs = linear._normalize(features, *linear._moments(features))
    (cold,) = fit_path(inputs, labels, [0.1])
    (warm,) = fit_path(inputs, labels, [0.1], start=cold + 1.0)
    np.testing.assert_allclose(warm[:-1], cold[:-1], atol=1e-3)


def test_the_penalty_is_chosen_without_the_test_images():
    train, test = blobs(90, seed=0, spread=0.7), blobs(60, seed=1, spread=0.7)
    readout = fit_linear_readout(*train, *test)
    scrambled = fit_linear_readout(*train, test[0][::-1], test[1])
    assert scrambled.penalty == readout.penalty
    np.testing.assert_array_equal(scrambled.weights, readout.weights)
    assert scrambled.accuracy < readout.accuracy


def test_the_penalty_is_chosen_on_a_held_out_fifth_and_used_on_all_images(monkeypatch):
    (features, labels), test = (
        blobs(90, seed=0, spread=0.7),
        blobs(60, seed=1, spread=1),
    )
    fitting, held = hold_out(Split(features, labels), 0.2)
    right = {len(held.labels): held.labels, len(test[1]): test[1]}
    fits, classified = [], []

    def fit(inputs, labels, penalties, *, start=None, advance):
        fits.append((inputs, labels, [*penalties], start))
        return [np.full((3, 3), penalty) for penalty in penalties]

    def classify(weights, inputs):
        classified.append(inputs)
        wrong = 1 if weights[0, 0] == linear.PENALTIES[2] else 5
        predictions = right[len(inputs)].copy()
        predictions[:wrong] = (predictions[:wrong] + 1) % 3
        return predictions

    monkeypatch.setattr(linear, "_fit_path", fit)
    monkeypatch.setattr(linear, "_classify", classify)
    readout = fit_linear_readout(features, labels, *test)

    def inputs(rows, normalized_by):
        return linear._normalize(rows, *linear._moments(normalized_by))

    choice, final = fits
    np.testing.assert_array_equal(choice[0], inputs(fitting.images, fitting.images))
    np.testing.assert_array_equal(choice[1], fitting.labels)
    assert choice[2] == [*linear.PENALTIES]
    for chosen_by in classified[:-1]:
        expected = inputs(held.images, fitting.images)
        np.testing.assert_array_equal(chosen_by, expected)
    np.testing.assert_array_equal(final[0], inputs(features, features))
    np.testing.assert_array_equal(final[1], labels)
    assert final[2] == [linear.PENALTIES[2]]
    np.testing.assert_array_equal(final[3], np.full((3, 3), linear.PENALTIES[2]))
    np.testing.assert_array_equal(classified[-1], inputs(test[0], features))
    assert readout.penalty == linear.PENALTIES[2]
    assert readout.validation_accuracy == pytest.approx(1 - 1 / len(held.labels))
    assert readout.accuracy == pytest.approx(59 / 60)
    assert (readout.predictions != test[1]).sum() == 1


def test_a_constant_feature_does_not_break_the_readout():
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
