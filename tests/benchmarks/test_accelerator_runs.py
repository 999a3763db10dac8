"""What benchmarks/accelerator.sh writes and reads."""

import subprocess
import sys

import pytest

from benchmarks.accelerator import runs
from isojax.data.sources import ImageSource, load_dataset
from tests.hidden_packages import hide
from tests.reporting.folders import add_evaluation, make_run

_LOAD = """
from isojax.data.sources import ImageSource, load_dataset
dataset = load_dataset(ImageSource("cifar10", 32), data_dir=sys.argv[1])
print(dataset.pretrain.images.shape)
"""


def test_random_images_are_a_prepared_data_set(tmp_path):
    assert runs.images(str(tmp_path), "100") == ""
    dataset = load_dataset(ImageSource("cifar10", 32), data_dir=tmp_path)
    assert dataset.pretrain.images.shape == (100, 32, 32, 3)
    assert dataset.evaluation.images.shape == (2, 32, 32, 3)
    assert dataset.num_classes == 10
    program = hide("tensorflow", "tensorflow_datasets") + _LOAD
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
    )
    assert loaded.stdout == "(100, 32, 32, 3)\n", loaded.stderr


def test_the_table_of_the_demo_has_all_accuracies(tmp_path):
    run = make_run(tmp_path / "run")
    add_evaluation(run)
    table = runs.demo(str(run), "60", "30")
    for line in (
        "| `train.py`, from start to exit, s | 60 |",
        "| epochs | 5 |",
        "| images/s, median of the epochs | 100 |",
        "| accuracy | 0.900 |",
        "| random_init_20-NN accuracy | 0.400 |",
        "| raw_pixel_accuracy | 0.600 |",
    ):
        assert line in table


def test_the_losses_of_both_feeds_are_compared(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert "differ by at most 0." in runs.feeds(str(first), str(second))
    path = second / "metrics.jsonl"
    path.write_text(
        path.read_text().replace('"train/loss": -0.5', '"train/loss": -0.4')
    )
    assert "differ by at most 0.1." in runs.feeds(str(first), str(second))


def test_runs_are_equal_but_for_the_clock(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    path = second / "metrics.jsonl"
    faster = path.read_text().replace(
        '"train/images_per_second": 100.0', '"train/images_per_second": 200.0'
    )
    path.write_text(faster)
    assert runs.equal(str(first), str(second)).startswith("equal bit for bit in 5")
    path.write_text(faster.replace('"train/loss": -0.4', '"train/loss": -0.5'))
    text = runs.equal(str(first), str(second))
    assert text.startswith("1 of ") and "by up to 2.0e-01 (first in epoch 4)" in text
    shorter = make_run(tmp_path / "c", epochs=4)
    assert runs.equal(str(first), str(shorter)) == "5 and 4 epochs\n"


def test_an_unknown_command_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["runs", "nothing"])
    with pytest.raises(KeyError, match="nothing"):
        runs.main()
