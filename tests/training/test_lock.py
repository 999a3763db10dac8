import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest

from isojax.errors import UsageError
from isojax.training.lock import LOCK_FILE, run_lock

HOLD = """
import sys, pathlib
from isojax.training.lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_folder_of_a_live_run_is_refused_and_its_owner_named(tmp_path, holder):
    owner = f"in use by process {holder.pid} on {socket.gethostname()} since 20"
    with pytest.raises(UsageError, match=owner), run_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait()
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


def test_a_lock_is_held_once_and_free_afterwards(tmp_path):
    for _ in range(2):
        with run_lock(tmp_path):
            with pytest.raises(UsageError, match=f"by process {os.getpid()} on"):
                run_lock(tmp_path).__enter__()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}'])
def test_a_lock_with_strange_content_is_still_a_lock(tmp_path, content):
    with run_lock(tmp_path):
        (tmp_path / LOCK_FILE).write_text(content)
        with pytest.raises(UsageError, match="in use by process"):
            run_lock(tmp_path).__enter__()
    with run_lock(tmp_path):
        pass


HERE, SPACE = socket.gethostname(), os.readlink("/proc/self/ns/pid")


@pytest.mark.parametrize(
    ("host", "space", "taken"),
    [
        (HERE, SPACE, True),
        ("elsewhere", SPACE, False),
        (HERE, "another container's", False),
    ],
)
def test_a_lock_that_only_a_child_of_an_ended_run_holds(tmp_path, host, space, taken):
    """Known to be stale on this host, and among the same processes, alone."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    path = tmp_path / LOCK_FILE
    owner = {"process": ended.pid, "host": host, "processes": space, "since": "1"}
    path.write_text(json.dumps(owner))
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if taken:
            with run_lock(tmp_path):
                assert str(os.getpid()) in path.read_text()
        else:
            with pytest.raises(UsageError, match=f"{ended.pid} on {host}"):
                run_lock(tmp_path).__enter__()
