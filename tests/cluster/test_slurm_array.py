"""A sweep by the tasks of an array, with the example script."""

import csv
import re
import sys

import pytest

from tests.cluster.conftest import SMALL, example_script

pytestmark = pytest.mark.cluster
RUNS = [f"isoloss-ema-seed{seed}" for seed in range(3)]


def sweep(workdir):
    """Returns the command of a sweep of three small runs."""
    return [
        *(sys.executable, "-m", "isojax", "sweep", f"--workdir={workdir}"),
        *("--methods=isoloss", "--ema=true", "--seeds=3", *SMALL),
        "--config.model.width=4",
        "--config.model.hidden_dim=16",
        "--config.model.projection_dim=8",
        "--config.epochs=2",
        "--config.optimizer.warmup_epochs=1",
    ]


@pytest.fixture(scope="module")
def sequential(slurm, tmp_path_factory):
    """The folder of a sweep by one process, run after run."""
    workdir = tmp_path_factory.mktemp("sequential") / "sweep"
    slurm.call(*sweep(workdir))
    return workdir


def rows(workdir):
    """Returns the rows of the table, without the times, which differ."""
    with (workdir / "runs.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{**row, "seconds": None} for row in found]


def started_runs(output):
    return [int(number) for number in re.findall(r"run (\d) of 3", output)]


def test_an_array_equals_a_sequential_sweep(slurm, sequential, tmp_path):
    workdir = tmp_path / "sweep"
    script = example_script(slurm, "slurm_sweep", sweep(workdir))
    job = slurm.submit_file(script, "--array=0-1")
    tasks = [f"{job}_{number}" for number in range(2)]
    assert [slurm.wait(task) for task in tasks] == [("COMPLETED", 0)] * 2
    started = [started_runs(slurm.output(task)) for task in tasks]
    assert all(started) and sorted(sum(started, [])) == [1, 2, 3], started
    assert rows(workdir) == rows(sequential)
