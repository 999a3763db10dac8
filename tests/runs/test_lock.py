import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.runs.lock import run_lock

HOLD = """
import sys, pathlib
from isojax.runs.lock import run_lock
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
        assert (
            json.loads((tmp_path / layout.LOCK_FILE).read_text())["process"]
            == os.getpid()
        )


def test_a_lock_is_held_once_and_free_afterwards(tmp_path):
    for _ in range(2):
        with run_lock(tmp_path):
            with pytest.raises(UsageError, match=f"by process {os.getpid()} on"):
                run_lock(tmp_path).__enter__()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}'])
def test_a_lock_with_strange_content_is_still_a_lock(tmp_path, content):
    with run_lock(tmp_path):
        (tmp_path / layout.LOCK_FILE).write_text(content)
        with pytest.raises(UsageError, match="in use by process"):
            run_lock(tmp_path).__enter__()
    with run_lock(tmp_path):
        pass


FORK = """
import os, sys, time
from pathlib import Path
from isojax.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_run(tmp_path):
    """Nor can two processes that start together both take it."""
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"by process {owner.pid} on"):
        run_lock(tmp_path).__enter__()
    owner.kill()
    owner.wait()
    file = (tmp_path / layout.LOCK_FILE).stat().st_ino
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        assert sorted(process.stdout.readline() for process in started) == [
            "",
            "held\n",
        ]
        assert (tmp_path / layout.LOCK_FILE).stat().st_ino == file
    finally:
        os.killpg(owner.pid, signal.SIGKILL)  # the child
        owner.stdout.close()
        for process in started:
            process.communicate()
