import os
import sys

import numpy as np
import pytest

from isojax.errors import UsageError
from isojax.training.metric_writers import (
    MetricWriters,
    check_packages,
    open_writers,
    read_options,
)
from isojax.training.metric_writers.options import LoggingOptions

EIGENVALUES = np.array([0.5, 1.0])


class Recorder:
    """A writer that keeps its calls, and fails in one of them."""

    def __init__(self, name, fails_in=None):
        self.name, self.calls = name, []
        self._fails_in = fails_in

    def _call(self, method, *args):
        self.calls.append((method, *args))
        if method == self._fails_in:
            raise OSError(28, "No space left on device")

    def write_steps(self, first, columns):
        self._call("steps", first)

    def write_epoch(self, row, eigenvalues):
        self._call("epoch", row["step"])

    def write_figures(self, step, pictures):
        self._call("figures", [path.name for path in pictures])

    def close(self, *, failed):
        self._call("close", failed)


def drive(writers, folder):
    for step in (2, 4):
        writers.write_steps(step - 1, {"step/loss": np.zeros(2)})
        writers.write_epoch({"step": step}, EIGENVALUES)
    writers.write_figures(4, folder)


def test_every_writer_receives_all_metrics_and_is_closed(tmp_path):
    (tmp_path / "b.png").touch()
    (tmp_path / "a.png").touch()
    recorders = [Recorder("one"), Recorder("two")]
    with MetricWriters({r.name: lambda r=r: r for r in recorders}) as writers:
        drive(writers, tmp_path)
    for recorder in recorders:
        assert recorder.calls == [
            ("steps", 1),
            ("epoch", 2),
            ("steps", 3),
            ("epoch", 4),
            ("figures", ["a.png", "b.png"]),
            ("close", False),
        ]


@pytest.mark.parametrize("method", ["steps", "epoch", "figures", "close"])
def test_a_failing_writer_is_reported_once_and_the_others_continue(
    tmp_path, capsys, method
):
    good, bad = Recorder("good"), Recorder("bad", fails_in=method)
    with MetricWriters({"bad": lambda: bad, "good": lambda: good}) as writers:
        drive(writers, tmp_path)
    assert len(good.calls) == 6
    calls = [call[0] for call in bad.calls]
    # Nothing follows, except that it is closed.
    assert calls[calls.index(method) :] == [*dict.fromkeys([method, "close"])]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: bad ")
    assert (
        "(OSError: [Errno 28] No space left on device, metric_writers/test_wr" in line
    )


def test_a_writer_that_cannot_be_opened_is_left_out(tmp_path, capsys):
    def fail():
        raise RuntimeError("no\nsuch server")

    good = Recorder("good")
    with MetricWriters({"bad": fail, "good": lambda: good}) as writers:
        drive(writers, tmp_path)
    assert len(good.calls) == 6
    (line,) = capsys.readouterr().out.splitlines()
    assert "Warning: bad receives no more metrics" in line
    assert "(RuntimeError: no, metric_writers/test_writers.py:" in line


def test_a_run_that_fails_is_closed_as_failed():
    recorder = Recorder("one")
    with pytest.raises(UsageError), MetricWriters({"one": lambda: recorder}):
        raise UsageError("diverged")
    assert recorder.calls == [("close", True)]


@pytest.mark.parametrize("is_full_at_once", [True, False])
def test_a_full_disk_stops_tensorboard_not_the_run(
    tmp_path, capsys, monkeypatch, is_full_at_once
):
    """Events are written in this thread: none waits for another that has died."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    record_writer = pytest.importorskip("tensorboardX.record_writer")
    files = [open("/dev/full" if is_full_at_once else tmp_path / "events", "wb")]
    monkeypatch.setattr(record_writer, "open_file", lambda _: files[0])
    options = LoggingOptions(tensorboard="on")
    with open_writers(tmp_path, {}, options, steps_done=0) as writers:
        if not is_full_at_once:
            with open("/dev/full", "wb") as full:
                os.dup2(full.fileno(), files[0].fileno())
        for step in range(1, 100):
            writers.write_steps(step, {"step/loss": np.zeros(50)})
    assert files[0].closed
    output = capsys.readouterr().out
    assert output.count("Warning: TensorBoard receives no more metrics") == 1
    assert "No space left on device" in output


@pytest.mark.parametrize("tensorboard", ["auto", "off"])
def test_tensorboard_is_written_where_it_is_wanted(tmp_path, tensorboard):
    pytest.importorskip("tensorboardX")
    options = LoggingOptions(tensorboard=tensorboard)
    with open_writers(tmp_path, {}, options, steps_done=0) as writers:
        writers.write_epoch({"step": 1}, EIGENVALUES)
    assert os.listdir(tmp_path) == (["tensorboard"] if tensorboard == "auto" else [])


@pytest.mark.parametrize(
    ("package", "fields", "remedy"),
    [
        ("wandb", {"wandb": "offline"}, "pip install wandb"),
        ("tensorboardX", {"tensorboard": "on"}, "pip install tensorboardX"),
    ],
)
def test_a_missing_package_is_reported_with_the_remedy(
    tmp_path, monkeypatch, package, fields, remedy
):
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    with pytest.raises(UsageError, match=f"requires the package {package}: {remedy}"):
        check_packages(LoggingOptions(**fields))
    check_packages(LoggingOptions())
    with open_writers(tmp_path, {}, LoggingOptions(), steps_done=0) as writers:
        writers.write_epoch({"step": 1}, EIGENVALUES)
    if package == "tensorboardX":
        assert not os.listdir(tmp_path)


def test_a_folder_named_wandb_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match="requires the package wandb"):
        check_packages(LoggingOptions(wandb="online"))
    sys.modules.pop("wandb", None)


@pytest.fixture
def broken_wandb(tmp_path, monkeypatch):
    """An installed wandb that raises what incompatible versions do."""
    (tmp_path / "wandb.py").write_text("raise TypeError('Descriptors cannot be made')")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_package_that_cannot_be_imported_is_refused_with_the_reason(broken_wandb):
    with pytest.raises(
        UsageError, match="requires the package wandb: .*TypeError: Descr"
    ):
        check_packages(LoggingOptions(wandb="offline"))


def test_a_broken_tensorboardx_does_not_end_a_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    with open_writers(tmp_path, {}, LoggingOptions(), steps_done=0) as writers:
        writers.write_epoch({"step": 1}, EIGENVALUES)
    (line,) = capsys.readouterr().out.splitlines()
    assert "TensorBoard receives no more metrics" in line and "ModuleNotFou" in line


def test_a_config_from_before_the_section_has_the_defaults():
    assert read_options({"epochs": 3}) == LoggingOptions()


@pytest.mark.parametrize(
    ("field", "value"),
    [("wandb", "on"), ("tensorboard", "yes"), ("tracked_modes", 2), ("lidar", "no")],
)
def test_unknown_choices_are_refused(field, value):
    with pytest.raises(UsageError, match=f"config.logging.{field}={value}: choose one"):
        read_options({"logging": {field: value}})
