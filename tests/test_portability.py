"""The code runs on macOS, where some functions of Linux do not exist."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest

from isojax.cpu_cores import cpu_cores
from isojax.runs import machine
from isojax.training import step_folder

ROOT = Path(__file__).parent.parent
FOLDERS = ("isojax", "configs", "benchmarks", "notebooks")
MODULES = sorted(
    path
    for paths in (ROOT.glob("*.py"), *((ROOT / f).rglob("*.py") for f in FOLDERS))
    for path in paths
)
ONLY_LINUX = {
    *("os.sched_getaffinity", "os.sched_setaffinity", "os.posix_fallocate"),
    *("os.posix_fadvise", "os.copy_file_range", "os.splice", "os.memfd_create"),
    *("os.eventfd", "os.pidfd_open", "os.getrandom", "os.pipe2", "os.fdatasync"),
    *("os.getxattr", "os.setxattr", "os.listxattr", "os.unshare", "os.setns"),
    *("os.O_DIRECT", "os.O_TMPFILE", "os.O_PATH", "os.O_NOATIME"),
    *("select.epoll", "signal.SIGPWR", "signal.SIGSTKFLT", "signal.SIGRTMIN"),
    *("signal.pidfd_send_signal", "signal.sigtimedwait", "signal.sigwaitinfo"),
    *("fcntl.F_OFD_SETLK", "fcntl.F_OFD_SETLKW", "resource.prlimit"),
    *("socket.AF_NETLINK", "time.CLOCK_BOOTTIME"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_what_only_linux_has_is_looked_up_before_its_use(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in ONLY_LINUX, f"line {node.lineno}: use getattr"


def test_cores_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert cpu_cores() == 3


def test_cores_are_known_without_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    machine.save_machine(tmp_path)
    assert json.loads((tmp_path / "machine.json").read_text())["cpu_cores"] == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_cores() == 1


@pytest.mark.parametrize("has_fallocate", [True, False])
def test_space_is_reserved(has_fallocate, tmp_path, monkeypatch):
    if not has_fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    step_folder.reserve_space(tmp_path / "space", 1000)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        step_folder.reserve_space(tmp_path / "space", 2**60)


def test_free_space_is_compared_without_fallocate(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    usage = shutil._ntuple_diskusage(2000, 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    step_folder.reserve_space(tmp_path / "space", 1000)
    with pytest.raises(OSError, match="No space left on device"):
        step_folder.reserve_space(tmp_path / "space", 1001)
