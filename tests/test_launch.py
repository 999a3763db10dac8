"""The launcher, with scripts that do not train."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = """
import os, signal, sys, time
flags = dict(argument[2:].split("=") for argument in sys.argv[1:])
number = int(flags["process_id"])
if "gpus" in flags:
    with open(f"{os.path.dirname(__file__)}/{number}.gpus", "w") as file:
        file.write(os.environ["JAX_LOCAL_DEVICE_IDS"])
def told(signal_number, _):
    print(number, "got", signal_number, flush=True)
    with open(f"{folder}/{number}.got", "a") as file:
        file.write(f"{signal_number} ")
    if "deaf" not in flags:
        time.sleep(0.2 * number)
        sys.exit(75 if "stops" in flags else 0)
folder = os.path.dirname(__file__)
signal.signal(signal.SIGINT, told)
signal.signal(signal.SIGTERM, told)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print("process", number, "of", flags["num_processes"], flags["coordinator"], flush=True)
open(f"{folder}/{number}.ready", "w").close()
while flags.get("failing") and not all(
    os.path.exists(f"{folder}/{n}.ready") for n in range(int(flags["num_processes"]))
):
    time.sleep(0.01)
if flags.get("failing") == "all":
    sys.exit("error: all the same")
if flags.get("failing") == str(number):
    print("it broke", file=sys.stderr)
    sys.exit(7)
if {"failing", "wait", "deaf", "stops"} & flags.keys():
    time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def begin(*arguments, processes="3"):
        # Ignored where nohup runs the tests, and a child inherits that. Not by
        # preexec_fn, which forks: JAX warns of it where another test began its threads.
        hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "isojax.launch", "--processes", processes, "--"]
                + [str(tmp_path / "script.py"), *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGHUP, hangup)

    return begin


def await_files(tmp_path, pattern):
    """Waits for one file of each of the three processes."""
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob(pattern))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_processes_get_their_flags_and_only_the_first_prints(start, tmp_path):
    out, err = (launched := start()).communicate(timeout=60)
    assert (launched.returncode, err) == (0, "")
    assert out.startswith("process 0 of 3 127.0.0.1:") and out.count("\n") == 1
    await_files(tmp_path, "*.ready")


@pytest.mark.parametrize(
    ("failing", "told"), [("2", "[process 2] it broke\n"), ("0", "")]
)
def test_if_one_process_fails_the_others_end_and_its_code_and_error_are_reported(
    start, failing, told
):
    start_time = time.monotonic()
    launched = start(f"--failing={failing}")
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == 7
    assert told in err and err.count("it broke") == 1
    assert time.monotonic() - start_time < 40  # not the minute that the others sleep


def test_an_error_of_all_processes_is_printed_once(start):
    _, err = (launched := start("--failing=all")).communicate(timeout=60)
    assert (launched.returncode, err) == (1, "error: all the same\n")


@pytest.mark.parametrize(
    ("number", "arrives"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGUSR1, signal.SIGTERM),
    ],
)
@pytest.mark.parametrize(("flag", "code"), [("--wait=1", 0), ("--stops=1", 75)])
def test_a_signal_reaches_every_process_once(
    start, tmp_path, number, arrives, flag, code
):
    """One that stops first does not end those that still save."""
    launched = start(flag)
    await_files(tmp_path, "*.ready")
    launched.send_signal(number)
    time.sleep(0.03)
    launched.send_signal(signal.SIGTERM)  # as Slurm does
    launched.communicate(timeout=60)
    assert launched.returncode == code
    got = [(tmp_path / f"{n}.got").read_text() for n in range(3)]
    assert got == [f"{int(arrives)} "] * 3


def test_a_second_interrupt_ends_processes_that_do_not_listen(start, tmp_path):
    launched = start("--deaf=1")
    await_files(tmp_path, "*.ready")
    launched.send_signal(signal.SIGINT)
    await_files(tmp_path, "*.got")
    time.sleep(0.2)
    launched.send_signal(signal.SIGINT)
    launched.communicate(timeout=60)
    assert launched.returncode == 128 + signal.SIGKILL


def test_zero_processes_are_refused(start):
    _, err = (launched := start(processes="0")).communicate(timeout=60)
    assert launched.returncode == 2 and "--processes=0: set it above 0" in err


def test_processes_divide_the_gpus(start, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    process = start("--gpus=", processes="2")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "0.gpus").read_text() == "0,1"
    assert (tmp_path / "1.gpus").read_text() == "2,3"
    refused = start(processes="3")
    assert refused.communicate(timeout=30)[1].startswith("error: 3 processes cannot")
    assert refused.returncode == 2
