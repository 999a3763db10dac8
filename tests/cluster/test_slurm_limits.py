"""Training under Slurm until a time limit, or until a signal before it.

All jobs wait for their limit at the same time; their steps pause.
"""

import pytest

from tests.cluster.conftest import TASKS, example_script, resume, train, training_script
from tests.reliability.runs import assert_same_state

pytestmark = pytest.mark.cluster
PAUSE = 2.5
OPTIONS = {
    "limit": ["--time=1"],
    "TERM": ["--time=2", "--signal=TERM@30"],
    "USR1": ["--time=2", "--signal=USR1@30"],
}


@pytest.fixture(scope="module")
def jobs(slurm, undisturbed, tmp_path_factory):
    """Returns the number of each job and the folder of its run."""
    folder = tmp_path_factory.mktemp("limits")
    started = {
        name: slurm.submit(
            training_script(folder / name), *TASKS, *options, pause=PAUSE
        )
        for name, options in OPTIONS.items()
    }
    started["example"] = slurm.submit_file(
        example_script(slurm, "slurm", train(folder / "example")),
        "--time=2", "--signal=TERM@30",
        pause=PAUSE,
    )  # fmt: skip
    return {name: (job, folder / name) for name, job in started.items()}


@pytest.mark.parametrize("name", ["TERM", "USR1"])
def test_a_signal_before_the_limit_saves(name, slurm, jobs, undisturbed):
    job, workdir = jobs[name]
    assert slurm.wait(job) == ("FAILED", 75)
    assert "the state is saved" in slurm.output(job)
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def test_the_time_limit_saves(slurm, jobs, undisturbed):
    job, workdir = jobs["limit"]
    assert slurm.wait(job)[0] == "TIMEOUT"
    assert "the state is saved" in slurm.output(job)
    resume(slurm, workdir)
    assert_same_state(workdir, undisturbed)


def test_the_example_script_requeues_its_job(slurm, jobs, undisturbed):
    job, workdir = jobs["example"]
    assert slurm.wait(job) == ("COMPLETED", 0)
    assert int(slurm.field(job, "Restarts")) > 0
    assert "Resuming after step" in slurm.output(job)
    assert_same_state(workdir, undisturbed)
