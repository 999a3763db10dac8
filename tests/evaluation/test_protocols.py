import subprocess
import sys

import numpy as np
import pytest

import isojax.evaluation
from isojax.errors import UsageError
from isojax.evaluation import Options, fit_linear_readout, knn, knn_accuracy
from isojax.evaluation.measure import measure_run
from isojax.evaluation.protocols import PROTOCOLS, find_protocol
from isojax.progress import SILENT
from isojax.runs.config_file import save_config
from tests.evaluation.protocol_inputs import inputs_of


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(3)
    labels = np.r_[np.zeros(190, int), np.ones(60, int)]
    features = rng.normal(size=(250, 4)) + 0.7 * labels[:, None]
    test_labels = np.arange(40) % 2
    test_features = rng.normal(size=(40, 4)) + 0.7 * test_labels[:, None]
    return (
        features.astype(np.float32),
        labels,
        test_features.astype(np.float32),
        test_labels,
    )


def test_the_linear_protocol_measures_the_readout(arrays):
    found = PROTOCOLS["linear"].measure(inputs_of(*arrays), SILENT)
    readout = fit_linear_readout(*arrays)
    assert readout.accuracy != readout.validation_accuracy
    assert found.values == {"accuracy": readout.accuracy}
    assert found.chosen == {"penalty": readout.penalty}
    assert found.details["validation_accuracy"] == readout.validation_accuracy
    np.testing.assert_array_equal(found.predictions, readout.predictions)
    is_correct = readout.predictions == arrays[3]
    assert found.details["per_class_accuracy"] == {
        f"class {label}": is_correct[arrays[3] == label].mean() for label in (0, 1)
    }


def test_the_knn_protocol_counts_the_votes_of_one_search(arrays, monkeypatch):
    expected = {str(k): knn_accuracy(*arrays, k=k) for k in (20, 200)}
    searches, search = [], knn.nearest_neighbours

    def count(*arguments, **settings):
        searches.append(settings["k"])
        return search(*arguments, **settings)

    monkeypatch.setattr(knn, "nearest_neighbours", count)
    found = PROTOCOLS["knn"].measure(inputs_of(*arrays), SILENT)
    assert expected["20"] != expected["200"]
    assert found.values == {"knn_accuracy": expected}
    assert found.details == {"knn_temperature": 0.07}
    assert searches == [200]


def test_a_part_keeps_images_features_and_labels_together(arrays):
    inputs = inputs_of(*arrays)
    part = inputs.part(np.array([3, 200]))
    np.testing.assert_array_equal(part.features, inputs.features[[3, 200]])
    np.testing.assert_array_equal(part.train.labels, [0, 1])
    np.testing.assert_array_equal(part.train.images.ravel(), [3, 200])
    assert part.test_features is inputs.test_features
    assert part.test is inputs.test


def test_an_unknown_protocol_is_refused(tmp_path):
    with pytest.raises(UsageError) as refused:
        find_protocol("svm")
    for name in ("svm", *PROTOCOLS):
        assert name in str(refused.value)
    from isojax.configs import digits

    save_config(tmp_path, digits.get_config())
    with pytest.raises(UsageError, match="'svm'"):
        measure_run(tmp_path, options=Options(("linear", "svm")))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_a_function_that_measures(name):
    assert callable(PROTOCOLS[name].measure)


def test_public_names_are_found_without_jax_before_their_use():
    for name in isojax.evaluation._MODULES:
        assert getattr(isojax.evaluation, name).__module__.startswith("isojax.")
    with pytest.raises(AttributeError, match="nothing"):
        isojax.evaluation.nothing  # noqa: B018
    code = "import sys, isojax.evaluation.protocols; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
