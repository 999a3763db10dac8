"""A Slurm cluster of two nodes on this machine, for the tests in this folder."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "mpirun")
PORTS = (16817, 17001, 17002)
# A node must have a name that resolves: process 0 listens under it. It offers more CPUs
# than the machine has, because the jobs that wait for a time limit mostly sleep.
NODES = (socket.gethostname(), "localhost")
SETTINGS = """
ClusterName=isojax
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=60
JobRequeue=1
MinJobAge=3600
SchedulerParameters=sched_interval=5,bf_interval=5
GresTypes=gpu
NodeName=DEFAULT CPUs=8 Gres=gpu:{gpus}
NodeName={nodes[0]} NodeHostname={nodes[0]} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName={nodes[1]} NodeHostname={nodes[1]} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=all Nodes=ALL Default=YES State=UP
"""
TASKS = ("-N2", "-n2")
# Slurm sets CUDA_VISIBLE_DEVICES for any character devices.
GPUS = 8
SMALL = [
    "--config.batch_size=64",
    "--config.data.validation_fraction=0.9",  # 400 images, 6 steps an epoch
    "--config.checkpoint_every_epochs=1",
    "--config.steps=36",
    "--config.evaluate_every_epochs=6",
    "--config.logging.lidar=False",
    "--config.logging.tensorboard=off",
]


class Slurm:
    """Starts jobs of a Slurm cluster and reads their states."""

    def __init__(self, folder):
        self.folder = folder
        self._hastened = set()  # jobs, each with its number of restarts

    def environment(self, pause=0.0):
        """Returns the environment of a job whose steps pause for some seconds."""
        return os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PAUSE": str(pause),
        }

    def call(self, *command, pause=0.0, timeout=600):
        """Runs a command to its end and returns its output."""
        done = subprocess.run(
            command,
            env=self.environment(pause),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_ready(self):
        """Returns whether the controller runs and both nodes are idle."""
        idle = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
        environment = self.environment()
        done = subprocess.run(idle, env=environment, capture_output=True, text=True)
        return done.stdout.strip() == "2"

    def submit(self, script, *options, pause=0.0):
        """Submits the lines of a batch script and returns the number of its job."""
        path = self.folder / f"job{len(list(self.folder.glob('job*.sh')))}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        return self.submit_file(path, "--open-mode=append", *options, pause=pause)

    def submit_file(self, path, *options, pause=0.0):
        """Submits a batch script and returns the number of its job."""
        output = f"--output={path.with_suffix('')}-%j.out"
        command = ["sbatch", "--parsable", output, *options, str(path)]
        return self.call(*command, pause=pause).strip()

    def field(self, job, name):
        """Returns a field of `scontrol show job`, such as its state."""
        text = self.call("scontrol", "show", "job", "--oneliner", job)
        fields = dict(part.partition("=")[::2] for part in text.split())
        return fields[name]

    def wait(self, job):
        """Waits until a job has ended; returns its state and its exit code.

        A requeued job starts after 5 seconds instead of the two minutes of Slurm.
        """
        until(lambda: self._has_ended(job))
        code, _, signal = self.field(job, "ExitCode").partition(":")
        return self.field(job, "JobState"), int(code) + 128 * bool(int(signal))

    def _has_ended(self, job):
        state = self.field(job, "JobState")
        restarts = self.field(job, "Restarts")
        is_delayed = state == "PENDING" and restarts != "0"
        if is_delayed and (job, restarts) not in self._hastened:
            # Slurm waits for two minutes. At once, nodes refuse a job that has ended
            # on them in the same second.
            self._hastened.add((job, restarts))
            self.call("scontrol", "update", f"jobid={job}", "StartTime=now+5")
        return state in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")

    def output(self, job):
        """Returns what a job has printed."""
        path = Path(self.field(job, "StdOut"))
        return path.read_text() if path.exists() else ""


def train(workdir):
    """Returns the command that trains a small run."""
    script = "tests/cluster/train_slowly.py"
    return [sys.executable, script, *SMALL, f"--workdir={workdir}"]


def training_script(workdir):
    """Returns the lines of a batch script that trains with two tasks."""
    return f"{shlex.join(['srun', *TASKS, *train(workdir)])}\nexit $?"


def example_script(slurm, name, command):
    """Writes a script of the folder `scripts` with another command after `srun`."""
    example = (ROOT / "scripts" / f"{name}.sbatch").read_text()
    line = example[example.index("srun ") :].splitlines()[0]
    path = slurm.folder / f"{name}.sh"
    path.write_text(example.replace(line, shlex.join(["srun", *command])))
    return path


def has_trained(workdir, epochs=2):
    """Returns whether a run has recorded some epochs."""
    metrics = workdir / "metrics.jsonl"
    return metrics.exists() and len(metrics.read_text().splitlines()) >= epochs


def resume(slurm, workdir):
    """Trains the rest of a run with two tasks."""
    output = slurm.call("srun", *TASKS, *train(workdir))
    assert "Resuming after step" in output


def until(condition, timeout=400):
    """Waits until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    assert not missing, (
        f"{', '.join(missing)} not found; install the Debian packages slurm-wlm, munge "
        "and openmpi-bin"
    )
    folder = tmp_path_factory.mktemp("slurm")
    user = getpass.getuser()
    settings = SETTINGS.format(
        folder=folder, user=user, nodes=NODES, ports=PORTS, gpus=GPUS
    )
    (folder / "slurm.conf").write_text(settings)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    for number in range(GPUS):
        (folder / f"gpu{number}").symlink_to("/dev/null")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    environment = os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": _path(),
    }
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}"]
        + [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in
           ("socket", "pid-file", "log-file", "seed-file")],
        ["slurmctld", "-D", "-c", "-i"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]  # fmt: skip
    started = []
    try:
        for daemon in daemons:
            with (folder / f"{daemon[0]}{len(started)}.out").open("wb") as log:
                started.append(
                    subprocess.Popen(daemon, env=environment, stdout=log, stderr=log)
                )
            time.sleep(0.5)
        cluster = Slurm(folder)
        until(cluster.is_ready, timeout=60)
        yield cluster
        cluster.call("scancel", "--me")
        until(lambda: not cluster.call("squeue", "--noheader"))
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def undisturbed(slurm, tmp_path_factory):
    """The folder of the run that two tasks train without interruption."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    slurm.call("srun", *TASKS, *train(workdir))
    return workdir


def _path():
    return os.environ["PATH"] + ":/usr/sbin:/sbin"
