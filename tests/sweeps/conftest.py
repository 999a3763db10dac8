import json
import signal
import sys

import numpy as np
import pytest

from isojax.configs import digits
from isojax.runs import layout
from isojax.runs.config_file import save_config
from isojax.runs.history import History
from isojax.sweeps.job_devices import JobDevices
from isojax.sweeps.plan import Plan, SweepRun, with_seed
from isojax.sweeps.run_log import write_log_entry
from isojax.sweeps.run_sweep import run_sweep

# Copies what a run would leave, and says that it was called.
STAND_IN = """
import os, shutil, signal, sys, time
deed, template, folder, called = sys.argv[1:]
with open(called, "a") as file:
    print(os.path.basename(folder), file=file)
if deed == "crash":
    sys.exit("RuntimeError: out of memory")
if deed == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "mistake":
    print("error: there is no data set", file=sys.stderr)
    sys.exit(2)
if deed == "stop":
    sys.exit(75)
if deed in ("deaf", "wait"):
    if deed == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    with open(called + ".ready", "a") as file:
        print(os.path.basename(folder), file=file)
    time.sleep(60)
if deed == "meet":  # fails unless another run is active at the same time
    while open(called).read().count(chr(10)) < 2:
        time.sleep(0.05)
shutil.copytree(template, folder, dirs_exist_ok=True)
sys.exit(2 if deed == "diverge" else 0)
"""
RUNS = [
    SweepRun("byol", True, 0),
    SweepRun("isoloss", True, 0),
    SweepRun("isoloss", True, 1),
]


@pytest.fixture(scope="session")
def config_of():
    """Returns a function that makes the config of a run of two epochs."""

    def make(run, **fields):
        config = with_seed(digits.get_config(run.preset), run.seed)
        config.epochs = 2
        config.optimizer.warmup_epochs = 1.0
        config.update_from_flattened_dict(fields)
        return config

    return make


@pytest.fixture(scope="session")
def fill(config_of):
    """Returns a function that writes the folder of a run without training it.

    Healthy projections of dimension 64 have a standard deviation of 0.125.
    """

    def make(
        directory, run, *, epochs=2, linear=0.9, ratio=20.0, std=0.12, fields=None
    ):
        folder = directory / run.name
        folder.mkdir(parents=True)
        config = config_of(run, **(fields or {}))
        save_config(folder, config)
        history = History(folder)
        for epoch in range(1, epochs + 1):
            row = {
                "step": 62 * epoch,
                "epoch": epoch,
                "train/std": std,
                "train/participation_ratio": ratio,
                "eval/effective_rank": 30.0,
                "eval/alpha_req": 1.5,
                "eval/nesum": 4.0,
            }
            history.append(row, np.ones(3))
        if linear is None:
            return folder
        result = {
            "step": history.rows[-1]["step"] if history.rows else 0,
            "accuracy": linear,
            "knn_accuracy": {"20": linear - 0.1, "200": 0.0},
            "split": "test",
            "num_train": 4000,
            "num_test": 1000,
            "penalty_chosen_on": "a fifth",
            "random_init_accuracy": 0.7,
            "random_init_knn_accuracy": {"20": 0.6},
            "raw_pixel_accuracy": 0.5,
            "raw_pixel_knn_accuracy": {"20": 0.4},
        }
        (folder / layout.RESULT_FILE).write_text(json.dumps(result))
        machine = {"backend": "cpu", "device": "cpu", "devices": 1, "cpu_cores": 2}
        (folder / layout.MACHINE_FILE).write_text(json.dumps(machine))
        write_log_entry(directory, run, {"seconds": 12.34})
        return folder

    return make


@pytest.fixture
def sweep(tmp_path, fill, config_of):
    """`sweep({run: deed})` sweeps; gives the exit code and the runs started."""
    directory, called = tmp_path / "sweep", tmp_path / "called"
    called.touch()
    for run in RUNS:
        fill(tmp_path / "finish", run)
        folder = fill(tmp_path / "diverge", run, linear=None)
        (folder / "not_finite.json").write_text("{}")

    def begin(deeds=None, *, jobs=1, workdir=None, **kwargs):
        deeds = deeds or {}

        def command(run):
            deed = deeds.get(run, "finish")
            kind = "diverge" if deed == "diverge" else "finish"
            target = (workdir or directory) / run.name
            folders = [tmp_path / kind / run.name, target, called]
            return [sys.executable, "-c", STAND_IN, deed, *map(str, folders)]

        begun = len(called.read_text().split())
        code = run_sweep(
            directory if workdir is None else workdir,
            Plan({run: config_of(run) for run in RUNS}, twins={}),
            config_of=config_of,
            command=command,
            again="the same command",
            devices=[JobDevices({})] * jobs,
            **kwargs,
        )
        return code, called.read_text().split()[begun:]

    begin.directory, begin.called = directory, called
    return begin


@pytest.fixture
def signal_handlers():
    """Restores the handlers: after a stop, repeated signals stay ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
