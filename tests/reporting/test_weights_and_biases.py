"""Against a module that stands in for wandb and keeps what it is given."""

import json
import sys
import threading
from collections import defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from isojax.reporting import weights_and_biases
from isojax.reporting.weights_and_biases import WandbWriter

EIGENVALUES = np.array([0.0, 1.0, 100.0])


class FakeRun:
    def __init__(self, folder):
        self.dir = str(folder / "wandb" / "run-1" / "files")
        self.logged, self.exit_code = defaultdict(dict), None

    def log(self, values, step):
        assert step >= max(self.logged, default=0)  # wandb drops what comes later
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
        module.runs.append(FakeRun(tmp_path))
        return module.runs[-1]

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


def test_a_resumed_run_has_the_same_id_and_no_step_twice(wandb, tmp_path):
    train(WandbWriter(tmp_path, {}, mode="offline"), 1, 6)
    # Killed, and begun anew from a checkpoint of step 2.
    train(WandbWriter(tmp_path, {}, mode="offline"), 3, 10)
    first, second = wandb.calls
    assert (
        first["id"]
        == second["id"]
        == json.loads((tmp_path / "wandb.json").read_text())["id"]
    )
    assert first["resume"] == "allow"
    assert list(wandb.runs[0].logged) == [1, 2, 3, 4, 5, 6]
    assert list(wandb.runs[1].logged) == [7, 8, 9, 10]


@pytest.mark.parametrize("count", [15, 97, 5000])
def test_of_many_steps_some_are_logged_equally_far_apart(wandb, tmp_path, count):
    writer = WandbWriter(tmp_path, {}, mode="offline")
    for first in (1, count + 1):
        writer.write_steps(first, {"step/loss": np.arange(first, first + count)})
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
            "not to be reached (no such host), so the run is logged offline",
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


def test_the_end_waits_for_the_network_only_so_long(
    wandb, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(weights_and_biases, "_FINISH_SECONDS", 0.05)
    writer = WandbWriter(tmp_path, {}, mode="online")
    released = threading.Event()
    wandb.runs[0].finish = lambda exit_code: released.wait()
    writer.close(failed=False)
    released.set()
    assert "wandb sync" in capsys.readouterr().out
