import pytest

from isojax.errors import UsageError
from isojax.evaluation import evaluate_run
from isojax.evaluation.protocol import merge_results


def test_rows_keep_what_another_protocol_has_found():
    previous = {
        "accuracy": 0.9,
        "curve": [{"step": 1, "accuracy": 0.5}, {"step": 3, "accuracy": 0.9}],
        "label_fractions": [{"fraction": 0.1, "accuracy": 0.8}],
    }
    found = {
        "online_accuracy": 0.7,
        "curve": [{"step": 2, "online_accuracy": 0.6}, {"step": 3, "accuracy": 1.0}],
        "label_fractions": [{"fraction": 0.1, "finetune_accuracy": 0.85}],
    }
    assert merge_results(previous, found) == {
        "accuracy": 0.9,
        "online_accuracy": 0.7,
        "curve": [
            {"step": 1, "accuracy": 0.5},
            {"step": 2, "online_accuracy": 0.6},
            {"step": 3, "accuracy": 1.0},
        ],
        "label_fractions": [
            {"fraction": 0.1, "accuracy": 0.8, "finetune_accuracy": 0.85}
        ],
    }
    assert merge_results({}, {"accuracy": 0.9}) == {"accuracy": 0.9}


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UsageError, match="cannot be written, so that no result"):
        evaluate_run(tmp_path)
