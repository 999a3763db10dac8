"""The sweep's command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SMALL = [
    "--config.model.width=4",
    "--config.model.hidden_dim=16",
    "--config.model.projection_dim=8",
    "--config.model.predictor_hidden_dim=16",
    "--config.epochs=2",
    "--config.optimizer.warmup_epochs=1",
    "--config.checkpoint_every_epochs=1",
]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "isojax.sweep", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods=byoll"], "--methods=byoll: "),
        (["--methods=byol", "--seeds=0"], "--seeds=0: "),
        (["--mehtods=byol"], "Did you mean: methods"),
        (["--methods=byol", "--config.seed=1"], "use --seeds"),
        (["--methods=byol", "--config.epoch=1"], "the nearest is 'epochs'"),
        (["--methods=byol", "--config.epochs=0"], "config.epochs=0: "),
        (["--tables_only"], "sweep contains no runs"),
    ],
)
def test_user_errors_are_reported_in_one_line_and_write_nothing(
    arguments, message, tmp_path
):
    workdir = tmp_path / "sweep"
    process = start(f"--workdir={workdir}", *arguments)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not workdir.exists()


def test_help_names_the_flags():
    out, _ = start("--help").communicate(timeout=60)
    assert "--methods" in out and "--tables_only" in out


@pytest.mark.slow
def test_a_killed_sweep_resumes(tmp_path):
    workdir = tmp_path / "sweep"
    flags = ["--methods=byol,isoloss", "--ema=false", f"--workdir={workdir}", *SMALL]
    begun = workdir / "isoloss-noema-seed0" / "metrics.jsonl"
    process = start(*flags)
    while not (begun.exists() and begun.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The run notices that its sweep has ended, saves and exits; this sweep waits.
    code, told, error = finish(*flags)
    assert code == 0, error
    assert "2 runs, 1 of them finished" in told
    assert (
        "Resuming after step"
        in (workdir / "records" / "isoloss-noema-seed0.txt").read_text()
    )
    lines = (workdir / "runs.csv").read_text().splitlines()
    assert len(lines) == 3 and all(",no,0," in line for line in lines[1:])
    assert "Not complete" not in (workdir / "table.md").read_text()
    result = json.loads((begun.parent / "linear_eval.json").read_text())
    assert f"{result['accuracy']:.3f}" in told


def finish(*flags):
    process = start(*flags)
    out, error = process.communicate(timeout=600)
    return process.returncode, out, error


@pytest.mark.slow
def test_two_runs_at_a_time_give_the_results_of_one_at_a_time(tmp_path):
    flags = ["--methods=byol,isoloss", "--ema=false", *SMALL, "--config.steps=70"]
    for jobs in (1, 2):
        workdir = tmp_path / str(jobs)
        code, _, error = finish(f"--workdir={workdir}", f"--jobs={jobs}", *flags)
        assert code == 0, error
    for run in ("byol-noema-seed0", "isoloss-noema-seed0"):
        one, two = (numbers_of(tmp_path / jobs / run) for jobs in ("1", "2"))
        assert one == two


def numbers_of(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    result = json.loads((run / "linear_eval.json").read_text())
    for timed in (*rows, result):
        timed.pop("train/images_per_second", None)
        timed.pop("seconds", None)
    return rows, result, np.load(run / "spectrum.npz")["eigenvalues"].tolist()
