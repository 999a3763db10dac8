import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from isojax.configs import digits
from isojax.training.metric_writers import write_accuracies
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from tests.training.metric_writers.events import read_curves, read_events

pytest.importorskip("tensorboardX")

EIGENVALUES = np.array([-1e-20, 0.1, 1.0, 10.0])


@pytest.fixture
def make_writer(tmp_path):
    """Its writers are closed after the test only, as those of killed runs never are."""
    writers = []

    def make(steps_done):
        writers.append(TensorBoardWriter(tmp_path, steps_done=steps_done, config={}))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close(failed=False)


def train(writer, first, last, sign=1.0):
    """Epochs of four steps."""
    for step in range(first, last + 1, 4):
        numbers = np.arange(step, step + 4)
        writer.write_steps(
            step, {"step/loss": sign * numbers, "step/learning_rate": 0.5 / numbers}
        )
        row = {"step": step + 3, "epoch": step // 4 + 1, "train/loss": sign * step}
        writer.write_epoch(row, EIGENVALUES)


def test_what_was_written_is_read_again(tmp_path, make_writer):
    train(make_writer(0), 1, 8)
    curves = read_curves(tmp_path / "tensorboard")
    assert curves["step/loss"] == [(step, step) for step in range(1, 9)]
    assert curves["step/learning_rate"][3] == (4, 0.125)
    assert curves["train/loss"] == [(4, 1), (8, 5)]
    assert curves["epoch"] == [(4, 1), (8, 2)]
    (step, histogram), _ = curves["spectrum/log10_eigenvalues"]
    assert (step, histogram.num, histogram.max) == (4, 4, 1)
    assert histogram.min == pytest.approx(-8)  # a billionth of the largest


def test_the_figures_are_pictures_with_their_size(tmp_path, make_writer):
    path = tmp_path / "spectrum.png"
    Figure(figsize=(3, 2)).savefig(path, dpi=50)
    make_writer(0).write_figures(7, [path])
    ((step, image),) = read_curves(tmp_path / "tensorboard")["figures/spectrum"]
    assert (step, image.width, image.height) == (7, 150, 100)
    assert image.encoded_image_string == path.read_bytes()


@pytest.mark.parametrize("resumed_from", [0, 4, 10])
def test_resumed_curves_have_no_overlapping_steps(tmp_path, make_writer, resumed_from):
    train(make_writer(0), 1, 12)
    train(make_writer(resumed_from), resumed_from + 1, resumed_from + 8, sign=-1.0)
    points = read_curves(tmp_path / "tensorboard")["step/loss"]
    assert [step for step, _ in points] == list(range(1, resumed_from + 9))
    assert [value < 0 for _, value in points] == [
        step > resumed_from for step, _ in points
    ]


def test_tensorflow_is_not_imported(tmp_path):
    program = (
        "import sys, pathlib; "
        "from isojax.training.metric_writers.tensorboard import TensorBoardWriter; "
        f"TensorBoardWriter(pathlib.Path({str(tmp_path)!r}), steps_done=0); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert any((tmp_path / "tensorboard").iterdir())


def hparams(folder):
    """Fields and metrics of the HPARAMS tab."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    fields, metrics = {}, set()
    for event in read_events(folder):
        for value in event.summary.value:
            plugin = value.metadata.plugin_data
            if plugin.plugin_name != "hparams":
                continue
            data = HParamsPluginData.FromString(plugin.content)
            for name, field in data.session_start_info.hparams.items():
                fields[name] = getattr(field, field.WhichOneof("kind"))
            metrics |= {info.name.tag for info in data.experiment.metric_infos}
    return fields, metrics


def test_the_main_fields_are_hyperparameters(tmp_path):
    config = digits.get_config("byol").to_dict()
    TensorBoardWriter(tmp_path, steps_done=0, config=config).close(failed=False)
    fields, metrics = hparams(tmp_path / "tensorboard")
    expected = {
        "preset": "byol",
        "data.name": "digits",
        "batch_size": 64,
        "method.target_decay": 0.98,
        "method.stop_gradient": True,
        "optimizer.learning_rate": 0.1,
    }
    assert {name: fields[name] for name in expected} == expected
    assert not any(name.startswith(("logging", "checkpoint")) for name in fields)
    assert {"linear_eval/linear", "linear_eval/20-NN", "train/loss"} <= metrics


def test_an_evaluation_adds_its_accuracies_and_drops_nothing(tmp_path, make_writer):
    train(make_writer(0), 1, 8)
    result = {
        "step": 8,
        "accuracy": 0.875,
        "random_init_accuracy": 0.5,
        "knn_accuracy": {"20": 0.75},
        "curve": [{"step": 4, "accuracy": 0.25}, {"step": 8, "accuracy": 0.875}],
    }
    write_accuracies(tmp_path, {}, result, group="linear_eval")
    curves = read_curves(tmp_path / "tensorboard")
    assert curves["linear_eval/linear"] == [(4, 0.25), (8, 0.875)]
    assert curves["linear_eval/20-NN"] == [(8, 0.75)]
    assert curves["train/loss"] == [(4, 1), (8, 5)]
    files = len([*(tmp_path / "tensorboard").iterdir()])
    off = {"logging": {"tensorboard": "off"}}
    write_accuracies(tmp_path, off, result, group="linear_eval")
    assert len([*(tmp_path / "tensorboard").iterdir()]) == files
