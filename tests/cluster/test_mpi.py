"""Training under Open MPI, on one machine."""

import os
import signal
import subprocess

import pytest

from tests.cluster.conftest import ROOT, has_trained, train, until
from tests.reliability.runs import assert_same_state

pytestmark = pytest.mark.cluster
# By default mpirun gives a rank one core; with other threads XLA rounds differently.
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
MPIRUN += ["-n", "2"]


def without_slurm(environment):
    return {k: v for k, v in environment.items() if not k.startswith("SLURM_")}


def test_two_ranks_equal_two_tasks(slurm, undisturbed, tmp_path):
    slurm.call(*MPIRUN, *train(tmp_path / "run"))
    assert_same_state(tmp_path / "run", undisturbed)


def test_a_stopped_mpirun_saves(slurm, undisturbed, tmp_path):
    # After 20 s mpirun sends SIGTERM to the processes, and after 20 s more SIGKILL.
    grace = ["--mca", "odls_base_sigkill_timeout", "20"]
    command = [*MPIRUN[:1], *grace, *MPIRUN[1:], *train(tmp_path / "run")]
    process = subprocess.Popen(
        command, env=without_slurm(slurm.environment(pause=2)), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: has_trained(tmp_path / "run"))
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "the state is saved" in output, output
    assert "Resuming after step" in slurm.call(*MPIRUN, *train(tmp_path / "run"))
    assert_same_state(tmp_path / "run", undisturbed)
