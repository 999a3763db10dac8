import pytest

from isojax.errors import UsageError
from isojax.runs.evaluation_result import EvaluationResult
from isojax.runs.stored_run import read_result

CONTENT = {
    "step": 8,
    "split": "test",
    "num_train": 4000,
    "num_test": 1000,
    "knn_temperature": 0.07,
    "accuracy": 0.9,
    "knn_accuracy": {"20": 0.8, "200": 0.7},
    "finetune_accuracy": 0.95,
    "online_accuracy": None,
    "random_init_accuracy": 0.5,
    "random_init_knn_accuracy": {"20": 0.4},
    "raw_pixel_knn_accuracy": {"20": 0.6},
    "label_fractions": [{"fraction": 0.1, "num_train": 400, "accuracy": 0.6}],
    "curve": [{"step": 4, "accuracy": 0.3}, {"step": 8, "accuracy": 0.9}],
}


def test_accuracies_are_read_by_encoder_and_protocol():
    result = EvaluationResult.from_json(CONTENT)
    assert result.pretrained == {
        "linear": 0.9,
        "20-NN": 0.8,
        "200-NN": 0.7,
        "fine-tuned": 0.95,
    }
    assert result.accuracies["random_init_"] == {"linear": 0.5, "20-NN": 0.4}
    assert result.linear_baselines == {"random encoder": 0.5}
    assert result.label_fractions == ((0.1, 400, {"linear": 0.6}),)
    assert result.curve == ((4, {"linear": 0.3}), (8, {"linear": 0.9}))
    assert (result.step, result.split, result.num_train) == (8, "test", 4000)
    assert result.num_test_pretrained is None
    assert result.content == CONTENT


def test_a_protocol_without_a_name_for_tables_is_named_by_its_field():
    others = {
        "svm_accuracy": 0.3,
        "random_init_svm_accuracy": 0.2,
        "validation_accuracy": 0.91,
        "finetune_validation_accuracy": 0.94,
        "per_class_accuracy": {"a": 0.9},
    }
    result = EvaluationResult.from_json(CONTENT | others)
    plain = EvaluationResult.from_json(CONTENT)
    assert result.pretrained == plain.pretrained | {"svm": 0.3}
    assert result.accuracies["random_init_"] == {
        "linear": 0.5,
        "20-NN": 0.4,
        "svm": 0.2,
    }
    assert result.accuracies["raw_pixel_"] == plain.accuracies["raw_pixel_"]


def test_a_run_that_was_not_evaluated_has_no_accuracies(tmp_path):
    result = read_result(tmp_path)
    assert not result.content and not result.pretrained and result.step is None


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"curve": [{}]}', '{"knn_accuracy": 3}', '{"curve": 3}']
)
def test_a_damaged_result_is_refused(content, tmp_path):
    path = tmp_path / "linear_eval.json"
    path.write_text(content)
    with pytest.raises(UsageError) as refused:
        read_result(tmp_path)
    assert str(path) in str(refused.value)
