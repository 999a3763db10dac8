import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from isojax import processes
from isojax.errors import UsageError

ROOT = Path(__file__).parent.parent
ALONE = """
import sys
from isojax import processes
processes._CONNECT_SECONDS = 1
processes.connect("127.0.0.1:9", 2, int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("127.0.0.1:99", None, None),
            "--num_processes and --process_id",
        ),
        ((None, 2, 0), "--num_processes and --process_id"),
        (("somewhere", 2, 0), "--coordinator=somewhere is not HOST:PORT"),
        (("somewhere:x", 2, 0), "is not HOST:PORT"),
        (("somewhere:65536", 2, 0), "is not HOST:PORT"),
        (("127.0.0.1:99", 2, 2), "--process_id=2 must be one of 0 to 1"),
        (("auto", None, None), "--coordinator=auto: "),
    ],
)
def test_invalid_flags_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        processes.connect(*arguments)


def test_unresponsive_processes_are_reported_in_one_line():
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: the processes did not find each other")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
    ],
)
def test_several_processes_are_seen_in_the_environment(monkeypatch, variables, several):
    calls = []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: calls.append(a))
    monkeypatch.setattr(jax.config, "update", lambda *a: None)
    processes.connect()
    assert calls == ([(None, None, None, None)] if several else [])
    processes.connect("auto")  # as JAX finds them, seen or not
    assert calls[-1] == (None,) * 4 and len(calls) == 1 + several


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_GPUS_ON_NODE": "8",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}


@pytest.fixture
def start(monkeypatch):
    """Connects without other processes; returns the arguments that JAX would get."""
    monkeypatch.setattr(jax.config, "update", lambda *a: None)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)

    def connect(*arguments):
        calls = []
        monkeypatch.setattr(
            jax.distributed, "initialize", lambda *a, **k: calls.append((a, k))
        )
        monkeypatch.delenv("JAX_COORDINATOR_PORT", raising=False)
        processes.connect(*arguments)
        return calls[0]

    return connect


def test_tasks_of_a_node_divide_its_gpus(start):
    arguments, options = start()
    assert arguments == (None, None, None, [4, 5, 6, 7])
    assert options["cluster_detection_method"] is None


def test_steps_of_a_job_use_different_ports(start, monkeypatch):
    start()
    port = os.environ["JAX_COORDINATOR_PORT"]
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    start()
    assert os.environ["JAX_COORDINATOR_PORT"] != port


def test_flags_inside_a_job_leave_all_gpus_to_the_process(start, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # in a shell, without srun
    arguments, options = start("node1:99", 2, 1)
    assert arguments == ("node1:99", 2, 1, list(range(8)))
    assert options["cluster_detection_method"] == "deactivate"


def test_a_coordinator_whose_port_is_in_use_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        message = f"port {port} .Address already in use"
        with pytest.raises(UsageError, match=message):
            processes.connect(f"127.0.0.1:{port}", 2, 0)


def test_proxies_are_hidden_from_the_connection_alone(monkeypatch):
    proxies = {"https_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    seen = []

    def initialize(*args, **kwargs):
        seen.append([name for name in os.environ if "proxy" in name.lower()])
        raise RuntimeError("RPC failed:\nstack")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax.config, "update", lambda *a: None)
    with pytest.raises(UsageError, match=r".RPC failed:\)$"):
        processes.connect("127.0.0.1:99", 2, 1)
    assert seen == [[]]
    assert {name: os.environ[name] for name in proxies} == proxies


def test_one_process_agrees_with_itself():
    assert processes.is_first_process()
    assert processes.gather("word") == ["word"]
    assert processes.any_process(True) and not processes.any_process(False)
    with pytest.raises(UsageError, match="no"):
        processes.in_first_process(lambda: (_ for _ in ()).throw(UsageError("no")))
