import numpy as np
import pytest

from isojax.evaluation import fit_linear_readout, frozen, knn_accuracy
from isojax.evaluation.frozen import FeatureSets, measure_frozen
from isojax.evaluation.knn import accuracy_by_votes


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(190, int), np.ones(60, int)]
    features = rng.normal(size=(250, 4)) + 0.7 * labels[:, None]
    test_labels = np.arange(40) % 2
    test_features = rng.normal(size=(40, 4)) + 0.7 * test_labels[:, None]
    return FeatureSets(
        features.astype(np.float32),
        labels,
        test_features.astype(np.float32),
        test_labels,
    )


def test_accuracies_are_those_of_the_protocols(sets, monkeypatch):
    voted = []

    def count_votes(neighbours, labels, test_labels, *, k):
        voted.append(knn_accuracy(*sets, k=k))
        assert accuracy_by_votes(neighbours, labels, test_labels, k=k) == voted[-1]
        return k / 1000

    monkeypatch.setattr(frozen, "accuracy_by_votes", count_votes)
    found, readout = measure_frozen(sets, ("knn", "linear", "online"))
    expected = fit_linear_readout(*sets)
    assert found["accuracy"] == readout.accuracy == expected.accuracy
    assert expected.accuracy != expected.validation_accuracy
    assert found["knn_accuracy"] == {"20": 0.02, "200": 0.2}
    assert len(voted) == 2


def test_only_what_is_asked_for_is_measured(sets):
    found, readout = measure_frozen(sets, ("knn",))
    assert (set(found), readout) == ({"knn_accuracy"}, None)
    found, readout = measure_frozen(sets, ("linear",))
    assert set(found) == {"accuracy"} and readout is not None


def test_a_part_keeps_features_and_labels_together_and_the_test_images(sets):
    part = sets.part(np.array([3, 200]))
    np.testing.assert_array_equal(part.features, sets.features[[3, 200]])
    np.testing.assert_array_equal(part.labels, [0, 1])
    assert part.test_features is sets.test_features
