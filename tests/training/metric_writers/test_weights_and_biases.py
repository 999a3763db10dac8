"""Against a module that stands in for wandb and keeps what it is given."""

import json
import sys
import threading
from collections import defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from isojax.training.metric_writers import weights_and_biases
from isojax.training.metric_writers.weights_and_biases import WandbWriter

EIGENVALUES = np.array([0.0, 1.0, 100.0])


class FakeRun:
    """Keeps its rows once it is finished or the next one begins, as wandb does."""

    def __init__(self, folder, step=0):
        self.step = step  # the server's next one
        self.dir = str(folder / "wandb" / "run-1" / "files")
        self.logged, self.exit_code = defaultdict(dict), None

    def log(self, values, step):
        assert step >= max(self.logged, default=self.step)  # wandb ignores others
        self.logged[step].update(values)

    def finish(self, exit_code):
        self.exit_code = exit_code


class CommError(Exception):
    pass


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    module = ModuleType("wandb")
    module.runs, module.calls, module.has_login, module.has_network = [], [], True, True

    def init(**arguments):
        assert not module.held  # "run ID is in use"
        if arguments["mode"] == "online" and not module.has_network:
            module.held = True
            raise CommError("no such host\nretried")
        module.calls.append(arguments)
        is_online = arguments["mode"] == "online"
        module.runs.append(FakeRun(tmp_path, module.next_step if is_online else 0))
        return module.runs[-1]

    module.next_step = 0
    module.init = init
    module.login = lambda *, prompt, verify: module.has_login
    module.setup = lambda settings: None
    module.held = False
    module.teardown = lambda: setattr(module, "held", False)
    module.Settings = SimpleNamespace
    module.errors = SimpleNamespace(CommError=CommError)
    module.Histogram = list
    module.Image = str
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def train(writer, first, last):
    for step in range(first, last + 1, 2):
        writer.write_steps(step, {"step/loss": np.array([step, step + 1.0])})
        writer.write_epoch({"step": step + 1, "train/loss": 0.5}, EIGENVALUES)


def test_steps_epochs_and_figures_arrive(wandb, tmp_path):
    writer = WandbWriter(tmp_path, {"method": {"alpha": 0.5}}, mode="online")
    train(writer, 1, 4)
    writer.write_figures(4, [tmp_path / "spectrum.png"])
    writer.close(failed=False)
    (call,), (run,) = wandb.calls, wandb.runs
    assert call["mode"] == "online"
    assert (call["project"], call["name"]) == ("isojax", tmp_path.name)
    assert call["config"] == {"method": {"alpha": 0.5}}
    assert [values["step/loss"] for values in run.logged.values()] == [1, 2, 3, 4]
    assert run.logged[2]["train/loss"] == 0.5
    assert run.logged[4]["spectrum/log10_eigenvalues"] == [-7, 0, 2]
    assert run.logged[4]["figures/spectrum"].endswith("spectrum.png")
    assert run.exit_code == 0


def past(last):
    """The epochs up to a step, as `train` writes them."""
    return [
        ({"step": step, "train/loss": 0.5}, EIGENVALUES)
        for step in range(2, last + 1, 2)
    ]


def epochs(run):
    return [step for step, values in run.logged.items() if "train/loss" in values]


def test_a_run_resumed_after_a_kill_logs_every_epoch(wandb, tmp_path):
    """Whatever of the part before has reached its file."""
    train(WandbWriter(tmp_path, {}, mode="offline"), 1, 6)
    # Killed, and resumed from a checkpoint of step 4.
    resumed = WandbWriter(tmp_path, {}, mode="offline", past=past(4))
    train(resumed, 5, 10)
    assert epochs(wandb.runs[1]) == [2, 4, 6, 8, 10]
    resumed.close(failed=False)
    # Closed, and resumed from an older checkpoint with more epochs to train.
    train(WandbWriter(tmp_path, {}, mode="offline", past=past(8)), 9, 12)
    assert epochs(wandb.runs[2]) == [12]
    assert list(wandb.runs[2].logged) == [11, 12]


@pytest.mark.parametrize("next_step", [0, 3, 5, 7])
def test_online_it_continues_after_what_the_server_has(wandb, tmp_path, next_step):
    train(WandbWriter(tmp_path, {}, mode="online"), 1, 6)
    wandb.next_step = next_step
    train(WandbWriter(tmp_path, {}, mode="online", past=past(4)), 5, 10)
    assert epochs(wandb.runs[1]) == [n for n in (2, 4, 6, 8, 10) if n >= next_step]


def test_an_epoch_s_metrics_are_in_the_row_of_its_last_step(wandb, tmp_path):
    """A kill between two rows must not leave a step that wandb has without them."""
    writer = WandbWriter(tmp_path, {}, mode="offline")
    rows = []
    wandb.runs[0].log = lambda values, step: rows.append((step, set(values)))
    train(writer, 1, 4)
    writer.write_steps(5, {"step/loss": np.zeros(1)})  # stopped within an epoch
    writer.close(failed=False)
    epoch = {"step/loss", "train/loss", "step", "spectrum/log10_eigenvalues"}
    assert rows == [
        *((1, {"step/loss"}), (2, epoch), (3, {"step/loss"}), (4, epoch)),
        (5, {"step/loss"}),
    ]


def test_an_error_at_the_end_is_raised_for_the_one_line_that_reports_it(
    wandb, tmp_path
):
    writer = WandbWriter(tmp_path, {}, mode="offline")
    wandb.runs[0].finish = lambda exit_code: 1 / 0
    with pytest.raises(ZeroDivisionError):
        writer.close(failed=False)


def test_a_resumed_run_has_the_same_id(wandb, tmp_path):
    for _ in range(2):
        WandbWriter(tmp_path, {}, mode="offline")
    first, second = wandb.calls
    assert (
        first["id"]
        == second["id"]
        == json.loads((tmp_path / "wandb.json").read_text())["id"]
    )
    assert first["resume"] == "allow"


@pytest.mark.parametrize("count", [15, 97, 5000])
def test_of_many_steps_some_are_logged_equally_far_apart(wandb, tmp_path, count):
    writer = WandbWriter(tmp_path, {}, mode="offline")
    for first in (1, count + 1):
        writer.write_steps(first, {"step/loss": np.arange(first, first + count)})
    writer.close(failed=False)
    logged = wandb.runs[0].logged
    assert 20 < len(logged) <= 33
    assert len({*np.diff(list(logged))}) == 1
    assert all(values == {"step/loss": step} for step, values in logged.items())


def test_another_folder_is_another_run(wandb, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        WandbWriter(tmp_path / name, {}, mode="offline")
    assert wandb.calls[0]["id"] != wandb.calls[1]["id"]


@pytest.mark.parametrize(
    ("lack", "line"),
    [
        ("has_login", "no login, so the run is logged offline"),
        (
            "has_network",
            "(no such host), so the run is logged offline",
        ),
    ],
)
def test_without_login_or_network_it_is_offline(wandb, tmp_path, capsys, lack, line):
    setattr(wandb, lack, False)
    writer = WandbWriter(tmp_path, {}, mode="online")
    output = capsys.readouterr().out
    assert line in output and output.count("\n") == 1
    assert [call["mode"] for call in wandb.calls] == ["offline"]
    train(writer, 1, 2)
    writer.close(failed=True)
    assert wandb.runs[0].exit_code == 1
    assert f"wandb sync {tmp_path}/wandb/run-1" in capsys.readouterr().out


def test_closing_waits_for_the_network_for_a_limited_time(
    wandb, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(weights_and_biases, "_FINISH_SECONDS", 0.05)
    writer = WandbWriter(tmp_path, {}, mode="online")
    released = threading.Event()
    wandb.runs[0].finish = lambda exit_code: released.wait()
    writer.close(failed=False)
    released.set()
    assert "wandb sync" in capsys.readouterr().out
