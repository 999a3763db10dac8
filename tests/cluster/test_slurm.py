"""Training under Slurm: equal to one process, stopped, killed, requeued and resumed.

The steps of a run that is stopped pause for a second, and all such runs wait at the
same time. Its end is compared with that of an undisturbed run, bit for bit.
"""

import json
import os
import shlex
import signal
import subprocess

import pytest

from tests.cluster.conftest import NODES, ROOT, train, until
from tests.reliability.runs import assert_same_state, final_state
from tests.reliability.test_devices import relative_difference

pytestmark = pytest.mark.cluster
TASKS = ("-N2", "-n2")
SAVED = 75


def script(workdir):
    """Returns the lines of a batch script that trains with two tasks."""
    command = shlex.join(["srun", *TASKS, *train(workdir)])
    return f"{command}\nexit $?"


@pytest.fixture(scope="module")
def runs(slurm, undisturbed):
    """Jobs that a signal or a limit stops, and the folders of their runs."""
    options = {
        "limit": ["--time=1"],
        "term": ["--time=2", "--signal=TERM@30"],
        "usr1": ["--time=2", "--signal=USR1@30"],
        "scancel": [],
        "requeue": ["--requeue"],
        "killed": [],
        "drained": [],
    }
    folder = undisturbed.parent
    return {
        name: (
            slurm.submit(script(folder / name), *TASKS, *more, pause=1),
            folder / name,
        )
        for name, more in options.items()
    }


def has_trained(workdir, epochs=2):
    metrics = workdir / "metrics.jsonl"
    return metrics.exists() and len(metrics.read_text().splitlines()) >= epochs


def resume(slurm, workdir):
    output = slurm.call("srun", *TASKS, *train(workdir))
    assert "Resuming after step" in output


def test_two_tasks_equal_one_process(slurm, undisturbed, tmp_path):
    slow = ["--config.optimizer.learning_rate=1e-4", "--config.steps=20"]
    slurm.call("srun", *TASKS, *train(tmp_path / "two"), *slow)
    slurm.call(*train(tmp_path / "one"), *slow)
    two, one = final_state(tmp_path / "two"), final_state(tmp_path / "one")
    for part in ("params", "target_params", "batch_stats", "correlation"):
        assert relative_difference(getattr(two, part), getattr(one, part)) < 1e-5, part


def test_scancel_saves(slurm, runs, undisturbed):
    job, workdir = runs["scancel"]
    until(lambda: has_trained(workdir))
    slurm.call("scancel", job)
    assert slurm.wait(job)[0] == "CANCELLED"
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def test_a_requeued_job_goes_on_by_itself(slurm, runs, undisturbed):
    job, workdir = runs["requeue"]
    until(lambda: has_trained(workdir))
    slurm.call("scontrol", "requeue", job)
    until(lambda: slurm.field(job, "JobState") == "PENDING")
    slurm.call("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert slurm.wait(job) == ("COMPLETED", 0)
    assert "Resuming after step" in slurm.output(job)
    assert_same_state(workdir, undisturbed)


def test_a_killed_task_ends_the_job(slurm, runs, undisturbed):
    job, workdir = runs["killed"]
    until(lambda: has_trained(workdir))
    found = subprocess.run(
        ["pgrep", "-f", f"train_slowly.py .*--workdir={workdir}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tasks = [pid for pid in map(int, found.stdout.split()) if is_python(pid)]
    assert len(tasks) == 2
    os.kill(tasks[1], signal.SIGKILL)
    state, code = slurm.wait(job)
    assert state == "FAILED" and code not in (0, SAVED)
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def is_python(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().startswith("python")


def test_a_drained_node_lets_its_run_finish(slurm, runs, undisturbed):
    job, workdir = runs["drained"]
    until(lambda: has_trained(workdir))
    update = ["scontrol", "update", f"nodename={NODES[1]}"]
    slurm.call(*update, "state=drain", "reason=test")
    try:
        assert slurm.wait(job) == ("COMPLETED", 0)
    finally:
        slurm.call(*update, "state=resume")
    assert_same_state(workdir, undisturbed)


@pytest.mark.parametrize("name", ["term", "usr1"])
def test_a_signal_before_the_limit_saves(name, slurm, runs, undisturbed):
    job, workdir = runs[name]
    assert slurm.wait(job) == ("FAILED", SAVED)
    assert "the state is saved" in slurm.output(job)
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def test_the_time_limit_saves(slurm, runs, undisturbed):
    job, workdir = runs["limit"]
    assert slurm.wait(job)[0] == "TIMEOUT"
    assert "the state is saved" in slurm.output(job)
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def test_two_steps_of_one_job_do_not_meet(slurm, undisturbed, tmp_path):
    steps = [
        shlex.join(["srun", "-N1", "-n2", "--exact", *train(tmp_path / name)])
        for name in ("first", "second")
    ]
    job = slurm.submit(f"{steps[0]} & {steps[1]} & wait -n && wait -n", "-N2", "-n4")
    assert slurm.wait(job) == ("COMPLETED", 0), slurm.output(job)
    for name in ("first", "second"):
        assert_same_state(tmp_path / name, undisturbed)


def test_the_example_script_requeues_itself(slurm, undisturbed, tmp_path):
    example = (ROOT / "scripts/slurm.sbatch").read_text()
    command = example[example.index("srun ") :].splitlines()[0]
    ours = example.replace(command, shlex.join(["srun", *train(tmp_path / "run")]))
    path = slurm.folder / "example.sh"
    path.write_text(ours)
    limits = ["--time=2", "--signal=TERM@30"]
    job = slurm.call("sbatch", "--parsable", *TASKS, *limits, str(path), pause=1)
    job = job.strip()
    until(lambda: has_trained(tmp_path / "run"), timeout=200)
    until(lambda: int(slurm.field(job, "Restarts")) >= 1, timeout=200)
    slurm.call("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert slurm.wait(job) == ("COMPLETED", 0)
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 120
    assert_same_state(tmp_path / "run", undisturbed)
