import errno
import json
import threading
from types import SimpleNamespace

import pytest

from isojax.errors import UsageError
from isojax.evaluation import evaluate, evaluate_run
from isojax.evaluation.evaluate import format_table
from isojax.runs.evaluation_result import merge_results, result_file

RESULT = {
    "step": 1234,
    "accuracy": 0.912,
    "random_init_accuracy": 0.5,
    "raw_pixel_accuracy": 0.6,
    "split": "test",
    "num_train": 4000,
    "num_test": 1000,
}


def test_merged_rows_keep_the_results_of_other_protocols():
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


def test_no_two_evaluations_share_a_file():
    assert result_file({}) == "linear_eval.json"
    changes = [
        {"train_split": "test"},
        {"evaluation_split": "test"},
        {"name": "a", "train_split": "b"},
        {"name": "a,train_split=b"},
        {"name": "a-b"},
        {"name": "a/b"},
        {"validation_fraction": 0.2},
        {"resolution": 2},
        {"name": "folder", "folder": "/data/" + 300 * "a"},
        {"name": "folder", "folder": "/data/" + 300 * "a" + "b"},
    ]
    assert len({result_file(fields) for fields in changes}) == len(changes)
    assert result_file(changes[2]) == "linear_eval-name=a,train_split=b.json"
    in_another_order = dict(reversed(changes[2].items()))
    assert result_file(in_another_order) == result_file(changes[2])
    for fields in changes:
        assert "/" not in result_file(fields) and len(result_file(fields)) < 200


def test_evaluations_at_the_same_time_keep_each_others_results(tmp_path, monkeypatch):
    found = [
        SimpleNamespace(result=RESULT | {name: 0.5}, predictions=None)
        for name in ("online_accuracy", "finetune_accuracy")
    ]
    read, second = evaluate.stored_result, []
    monkeypatch.setattr(evaluate, "measure_run", lambda *_, **__: found.pop(0))

    def read_while_another_finishes(path, result):
        previous = read(path, result)
        if not second:
            second.append(threading.Thread(target=evaluate_run, args=(tmp_path,)))
            second[0].start()
            second[0].join(timeout=0.5)  # it waits for the lock
        return previous

    monkeypatch.setattr(evaluate, "stored_result", read_while_another_finishes)
    evaluate_run(tmp_path)
    second[0].join()
    kept = json.loads((tmp_path / "linear_eval.json").read_text())
    assert (kept["online_accuracy"], kept["finetune_accuracy"]) == (0.5, 0.5)


def test_the_table_shows_the_temperature_and_pretrained_test_images():
    shown = format_table(RESULT)
    assert "k-NN" not in shown and "pretrained on" not in shown
    shown = format_table(RESULT | {"knn_temperature": 0.07, "num_test_pretrained": 12})
    assert "exp(s / 0.07) votes" in shown
    assert "pretrained on 12 of the 1,000 test images" in shown


def test_the_table_has_a_column_for_every_protocol_and_blanks_where_one_is_missing():
    result = RESULT | {
        "knn_accuracy": {"20": 0.8},
        "random_init_knn_accuracy": {"20": 0.4},
        "raw_pixel_knn_accuracy": {"20": 0.7},
        "finetune_accuracy": 0.95,
        "finetune_learning_rate": 0.03,
        "svm_accuracy": 0.3,
        "label_fractions": [
            {
                "fraction": 0.01,
                "num_train": 40,
                "accuracy": 0.5,
                "random_init_accuracy": 0.2,
                "raw_pixel_accuracy": 0.3,
            },
            {"fraction": 0.1, "num_train": 400, "finetune_accuracy": 0.6},
        ],
        "curve": [{"step": 600, "online_accuracy": 0.1}, {"step": 1234}],
    }
    assert format_table(result).splitlines() == [
        "                       linear    20-NN  fine-tuned      svm",
        "pretrained encoder      0.912    0.800       0.950    0.300",
        "random encoder          0.500    0.400",
        "raw pixels              0.600    0.700",
        "accuracy on 1,000 test images, 4,000 labelled images for the readout",
        "fine-tuned: learning rate 0.03",
        "",
        "labelled images        linear   random   pixels  fine-tuned",
        "40 (1.00%)              0.500    0.200    0.300",
        "400 (10.00%)                                          0.600",
        "",
        "step                  online probe",
        "600                          0.100",
        "1,234",
    ]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UsageError, match=f"--workdir={tmp_path} "):
        evaluate_run(tmp_path)


def test_a_result_that_cannot_be_written_is_printed(tmp_path, monkeypatch, capsys):
    def fill_up(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    found = SimpleNamespace(result=RESULT, predictions=None)
    monkeypatch.setattr(evaluate, "measure_run", lambda *_, **__: found)
    monkeypatch.setattr(evaluate, "write_atomically", fill_up)
    with pytest.raises(UsageError, match="No space left on device"):
        evaluate_run(tmp_path)
    assert "0.912" in capsys.readouterr().out
