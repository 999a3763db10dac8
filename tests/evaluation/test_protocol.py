import errno
from types import SimpleNamespace

import pytest

from isojax.errors import UsageError
from isojax.evaluation import evaluate_run, protocol
from isojax.evaluation.protocol import merge_results

RESULT = {
    "step": 1234,
    "accuracy": 0.912,
    "random_init_accuracy": 0.5,
    "raw_pixel_accuracy": 0.6,
    "split": "test",
    "num_train": 4000,
    "num_test": 1000,
}


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


def test_a_result_that_cannot_be_written_is_printed(tmp_path, monkeypatch, capsys):
    def fill_up(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    found = SimpleNamespace(result=RESULT, readout=None)
    monkeypatch.setattr(protocol, "evaluate", lambda *_, **__: found)
    monkeypatch.setattr(protocol, "write_atomically", fill_up)
    with pytest.raises(UsageError, match="No space left on device.*, so that the resu"):
        evaluate_run(tmp_path)
    assert "0.912" in capsys.readouterr().out
