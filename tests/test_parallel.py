import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import parallel
from isojax.errors import UsageError

ROOT = Path(__file__).parent.parent
ALONE = """
import sys
from isojax import parallel
parallel._CONNECT_SECONDS = 1
parallel.connect("127.0.0.1:9", 2, int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("127.0.0.1:99", None, None), "belong together"),
        ((None, 2, 0), "belong together"),
        (("somewhere", 2, 0), "--coordinator=somewhere is not HOST:PORT"),
        (("somewhere:x", 2, 0), "is not HOST:PORT"),
        (("somewhere:65536", 2, 0), "is not HOST:PORT"),
        (("127.0.0.1:99", 2, 2), "--process_id=2 must be one of 0 to 1"),
        (("auto", None, None), "--coordinator=auto: JAX found no cluster"),
    ],
)
def test_invalid_flags_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        parallel.connect(*arguments)


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
    monkeypatch.setattr(
        parallel.jax.distributed, "initialize", lambda *a, **k: calls.append(a)
    )
    monkeypatch.setattr(parallel.jax.config, "update", lambda *a: None)
    parallel.connect()
    assert calls == ([(None, None, None)] if several else [])
    parallel.connect("auto")  # as JAX finds them, seen or not
    assert calls[-1] == (None, None, None) and len(calls) == 1 + several


def test_a_coordinator_whose_port_is_in_use_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        message = f"process 0 cannot listen on port {port} .Address already in use"
        with pytest.raises(UsageError, match=message):
            parallel.connect(f"127.0.0.1:{port}", 2, 0)


def test_proxies_are_hidden_from_the_connection_alone(monkeypatch):
    proxies = {"https_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    seen = []

    def initialize(*args, **kwargs):
        seen.append([name for name in os.environ if "proxy" in name.lower()])
        raise RuntimeError("RPC failed:\nstack")

    monkeypatch.setattr(parallel.jax.distributed, "initialize", initialize)
    monkeypatch.setattr(parallel.jax.config, "update", lambda *a: None)
    with pytest.raises(UsageError, match=r"could not be connected .RPC failed:\)$"):
        parallel.connect("127.0.0.1:99", 2, 1)
    assert seen == [[]]
    assert {name: os.environ[name] for name in proxies} == proxies


def test_one_process_agrees_with_itself():
    assert parallel.is_first_process()
    assert parallel.gather("word") == ["word"]
    assert parallel.any_process(True) and not parallel.any_process(False)
    with pytest.raises(UsageError, match="no"):
        parallel.in_first_process(lambda: (_ for _ in ()).throw(UsageError("no")))


@pytest.mark.parametrize(("devices", "axis"), [(1, None), (4, parallel.AXIS)])
def test_the_axis_has_a_name_with_several_devices(monkeypatch, devices, axis):
    monkeypatch.setattr(parallel, "device_count", lambda: devices)
    assert parallel.axis_name() == axis


@pytest.mark.parametrize("requested", [True, False])
def test_a_mapped_step_returns_whether_a_stop_was_requested(requested):
    def step(state, batch, shared):
        return state + shared, jax.lax.psum(batch.sum(), parallel.AXIS)

    mapped = parallel.MappedStep(step)
    devices = parallel.device_count()
    batch = parallel.split_batch({"x": np.arange(2.0 * devices, dtype=np.float32)})
    state, shared = parallel.replicate((jnp.float32(1), jnp.float32(2)))
    result = mapped(state, batch["x"], shared, stop_requested=requested)
    assert bool(result.stop_requested) is requested
    assert result.state == 3
    assert result.report == np.arange(2 * devices).sum()
