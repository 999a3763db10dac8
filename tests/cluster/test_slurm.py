"""Training under Slurm: equal to one process, cancelled, killed, requeued and resumed.

The steps of a run that is stopped pause. Its end is compared with that of an
undisturbed run, bit for bit.
"""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import (
    NODES,
    TASKS,
    has_trained,
    resume,
    train,
    training_script,
    until,
)
from tests.reliability.runs import assert_same_state, final_state
from tests.reliability.test_devices import relative_difference

pytestmark = pytest.mark.cluster


def start(slurm, workdir, *options):
    """Submits a job that trains, and returns its number once it has trained."""
    job = slurm.submit(training_script(workdir), *TASKS, *options, pause=1)
    until(lambda: has_trained(workdir))
    return job


def test_two_tasks_equal_one_process(slurm, tmp_path):
    slow = ["--config.optimizer.learning_rate=1e-4", "--config.steps=20"]
    slurm.call("srun", *TASKS, *train(tmp_path / "two"), *slow)
    slurm.call(*train(tmp_path / "one"), *slow)
    two, one = final_state(tmp_path / "two"), final_state(tmp_path / "one")
    for part in ("params", "target_params", "batch_stats", "correlation"):
        assert relative_difference(getattr(two, part), getattr(one, part)) < 1e-5, part


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        (["--ntasks-per-node=1", "--gpus-per-node=8"], [8, 8]),
        (["--ntasks-per-node=2", "--gpus-per-node=8"], [4, 4, 4, 4]),
        (["--ntasks-per-node=2", "--gpus-per-task=1"], [1, 1, 1, 1]),
        (["--ntasks-per-node=2", "--gpus-per-task=2"], [2, 2, 2, 2]),
    ],
)
def test_the_tasks_of_a_node_divide_its_gpus(options, gpus, slurm):
    """Each GPU belongs to one task. Slurm takes files for GPUs; none is used."""
    code = """
import os
from isojax.launchers import launcher_task, local_gpus
visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
chosen = local_gpus(launcher_task(), os.environ | {"JAX_PLATFORMS": "cuda"})
print(os.environ["SLURM_NODEID"], *(visible[index] for index in chosen))
"""
    output = slurm.call("srun", "-N2", *options, sys.executable, "-c", code)
    tasks = [line.split() for line in output.splitlines()]
    assert [len(chosen) for _, *chosen in tasks] == gpus
    devices = [(node, gpu) for node, *chosen in tasks for gpu in chosen]
    assert len(set(devices)) == sum(gpus)


def test_scancel_saves(slurm, undisturbed, tmp_path):
    job = start(slurm, tmp_path / "run")
    slurm.call("scancel", job)
    assert slurm.wait(job)[0] == "CANCELLED"
    assert "the state is saved" in slurm.output(job)
    resume(slurm, tmp_path / "run")
    assert_same_state(tmp_path / "run", undisturbed)


def test_a_requeued_job_resumes_by_itself(slurm, undisturbed, tmp_path):
    job = start(slurm, tmp_path / "run", "--requeue")
    slurm.call("scontrol", "requeue", job)
    assert slurm.wait(job) == ("COMPLETED", 0)
    assert "the state is saved" in slurm.output(job)
    assert "Resuming after step" in slurm.output(job)
    assert_same_state(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_task_ends_the_job(rank, slurm, undisturbed, tmp_path):
    job = start(slurm, tmp_path / "run")
    os.kill(find_task(job, rank), signal.SIGKILL)
    assert slurm.wait(job) == ("FAILED", 128 + signal.SIGKILL)
    resume(slurm, tmp_path / "run")
    assert_same_state(tmp_path / "run", undisturbed)


def find_task(job, rank):
    """Returns the number of the process that trains as a task of a job."""
    found = subprocess.run(
        ["pgrep", "-f", "train_slowly.py"], capture_output=True, text=True, check=True
    )
    wanted = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={rank}", "SLURM_STEP_ID=0"}
    (task,) = [
        pid
        for pid in map(int, found.stdout.split())
        if wanted <= {*Path(f"/proc/{pid}/environ").read_text().split("\0")}
    ]
    return task


def test_a_drained_node_lets_its_run_finish(slurm, undisturbed, tmp_path):
    job = start(slurm, tmp_path / "run")
    update = ["scontrol", "update", f"nodename={NODES[1]}"]
    slurm.call(*update, "state=drain", "reason=test")
    try:
        assert slurm.wait(job) == ("COMPLETED", 0)
    finally:
        slurm.call(*update, "state=resume")
    assert_same_state(tmp_path / "run", undisturbed)


def test_two_steps_of_one_job_do_not_connect(slurm, undisturbed, tmp_path):
    steps = [
        shlex.join(["srun", "-N1", "-n2", "--exact", *train(tmp_path / name)])
        for name in ("first", "second")
    ]
    job = slurm.submit(f"{steps[0]} & {steps[1]} & wait -n && wait -n", "-N2", "-n4")
    assert slurm.wait(job) == ("COMPLETED", 0), slurm.output(job)
    for name in ("first", "second"):
        assert_same_state(tmp_path / name, undisturbed)
