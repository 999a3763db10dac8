"""The encoder of a finished run, and its evaluation."""

import json
import shutil

import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.evaluation import Options, evaluate_run
from isojax.training import (
    load_encoder,
    random_encoder,
)

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def evaluated(finished, tmp_path):
    """A copy of the finished run, which other tests do not see."""
    return shutil.copytree(finished, tmp_path / "evaluated")


def test_the_encoder_takes_integer_and_float_images_alike(finished, small_data):
    apply, variables = load_encoder(finished)
    images = small_data.evaluation.images[:3]
    features = apply(variables, images)
    assert features.shape == (3, 16)
    np.testing.assert_allclose(
        apply(variables, images / np.float32(255)), features, rtol=1e-4, atol=1e-5
    )
    untrained = random_encoder(finished)
    assert np.abs(untrained[0](untrained[1], images) - features).max() > 1e-2


def test_the_encoder_refuses_images_of_the_wrong_shape(finished):
    apply, variables = load_encoder(finished)
    with pytest.raises(ValueError, match=r"\(n, h, w, 1\)"):
        apply(variables, np.zeros((2, 28, 28, 3), np.uint8))


def test_a_missing_checkpoint_is_refused_with_the_existing_ones(finished):
    with pytest.raises(UsageError, match="no checkpoint of step 5 .* there are 6, 9"):
        load_encoder(finished, step=5)


def test_evaluation_writes_accuracies_and_baselines(evaluated):
    result = evaluate_run(evaluated)
    assert json.loads((evaluated / "linear_eval.json").read_text()) == result
    for name in ("accuracy", "random_init_accuracy", "raw_pixel_accuracy"):
        assert 0 < result[name] <= 1
    assert result["raw_pixel_accuracy"] > 0.5
    assert (result["split"], result["num_train"], result["num_test"]) == (
        "test",
        100,
        25,
    )


def test_evaluation_over_training_and_with_few_labels(evaluated):
    last = evaluate_run(evaluated, options=Options(("knn",)))
    options = Options(("knn", "online"), (0.1, 1.0), "all")
    result = evaluate_run(evaluated, options=options)
    assert json.loads((evaluated / "linear_eval.json").read_text()) == result
    steps = [point["step"] for point in result["curve"]]
    assert steps == [6, 9]
    assert result["step"] == 9
    assert result["knn_accuracy"] == last["knn_accuracy"]
    assert result["curve"][-1]["knn_accuracy"] == last["knn_accuracy"]
    row = json.loads((evaluated / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["online_accuracy"] == pytest.approx(row["eval/online_accuracy"])
    (few,) = result["label_fractions"]
    assert 10 <= few["num_train"] < 20
    assert (evaluated / "figures" / "accuracy.png").exists()
    with pytest.raises(UsageError, match="no checkpoint of step 5 .* there are 6, 9"):
        evaluate_run(evaluated, options=Options(steps=(5, 9)))
