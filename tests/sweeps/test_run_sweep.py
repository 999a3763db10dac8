"""Sweeps whose runs are stand-ins that train nothing."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from isojax.errors import UsageError
from isojax.runs.lock import run_lock
from isojax.stopping import STOPPED_EXIT_CODE
from isojax.sweeps.plan import Plan, SweepRun
from isojax.sweeps.run_log import output_path, read_log_entry
from isojax.sweeps.run_sweep import rewrite_tables, run_sweep

# Copies what a run would leave, and says that it was called.
STAND_IN = """
import os, shutil, signal, sys, time
deed, template, folder, called = sys.argv[1:]
with open(called, "a") as file:
    print(os.path.basename(folder), file=file)
if deed == "crash":
    sys.exit("RuntimeError: out of memory")
if deed == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "mistake":
    print("error: there is no data set", file=sys.stderr)
    sys.exit(2)
if deed == "stop":
    sys.exit(75)
if deed == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    open(called + ".ready", "w").close()
    time.sleep(60)
if deed == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    open(called + ".ready", "w").close()
    time.sleep(60)
shutil.copytree(template, folder, dirs_exist_ok=True)
sys.exit(2 if deed == "diverge" else 0)
"""
RUNS = [
    SweepRun("byol", True, 0),
    SweepRun("isoloss", True, 0),
    SweepRun("isoloss", True, 1),
]


@pytest.fixture
def sweep(tmp_path, fill, config_of):
    """`sweep({run: deed})` sweeps; gives the exit code and the runs started."""
    directory, called = tmp_path / "sweep", tmp_path / "called"
    for run in RUNS:
        fill(tmp_path / "finish", run)
        folder = fill(tmp_path / "diverge", run, linear=None)
        (folder / "not_finite.json").write_text("{}")

    def begin(deeds=None, **kwargs):
        deeds = deeds or {}

        def command(run):
            deed = deeds.get(run, "finish")
            kind = "diverge" if deed == "diverge" else "finish"
            folders = [tmp_path / kind / run.name, directory / run.name, called]
            return [sys.executable, "-c", STAND_IN, deed, *map(str, folders)]

        called.write_text("")
        code = run_sweep(
            directory,
            Plan({run: config_of(run) for run in RUNS}, twins={}),
            config_of=config_of,
            command=command,
            again="the same command",
            **kwargs,
        )
        return code, called.read_text().split()

    begin.directory, begin.called = directory, called
    return begin


def statuses(sweep):
    lines = (sweep.directory / "runs.csv").read_text().splitlines()[1:]
    return {line.split(",")[-1]: line.split(",")[3] for line in lines}


def test_everything_runs_once(sweep, capsys):
    assert sweep() == (0, [run.name for run in RUNS])
    assert set(statuses(sweep).values()) == {"finished"}
    told = capsys.readouterr().out
    assert "run 1 of 3: byol, EMA, seed 0" in told
    assert "run 3 of 3, less than a minute remaining: isoloss, EMA, seed 1" in told
    assert "| IsoLoss, cosine | yes | 0.900 ± 0.000 |" in told
    assert sweep() == (0, [])
    assert rewrite_tables(sweep.directory) in told


def test_failed_runs_are_recorded_and_not_repeated_unless_asked(sweep, capsys):
    deeds = {RUNS[0]: "crash", RUNS[1]: "diverge"}
    assert sweep(deeds) == (1, [run.name for run in RUNS])
    expected = dict(
        zip(
            [run.name for run in RUNS], ["crashed", "diverged", "finished"], strict=True
        )
    )
    assert statuses(sweep) == expected
    assert "crashed (RuntimeError: out of memory); " in (capsys.readouterr().out)
    assert sweep() == (1, [])
    (sweep.directory / RUNS[1].name / "not_finite.json").unlink()  # the worker does
    assert sweep(retry=True) == (0, [RUNS[0].name, RUNS[1].name])
    assert set(statuses(sweep).values()) == {"finished"}


def test_a_killed_run_is_a_crash(sweep):
    assert sweep({RUNS[2]: "killed"})[0] == 1
    assert read_log_entry(sweep.directory, RUNS[2])["crashed"].endswith("signal 9")


def test_a_user_error_ends_the_sweep_which_resumes_once_it_is_fixed(sweep):
    with pytest.raises(UsageError, match="^there is no data set$"):
        sweep({RUNS[1]: "mistake"})
    assert statuses(sweep) == {RUNS[0].name: "finished"}
    assert "no data set" in output_path(sweep.directory, RUNS[1]).read_text()
    assert sweep() == (0, [RUNS[1].name, RUNS[2].name])


@pytest.fixture
def signal_handlers():
    """Restores the handlers: after a stop, repeated signals stay ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_stops_the_run_and_the_sweep(
    sweep, capsys, monkeypatch, signal_handlers, number
):
    monkeypatch.setattr(
        "isojax.stopping.stop_signals", lambda: [signal.SIGTERM, number]
    )

    def send():
        while not sweep.called.with_suffix(".ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)
        time.sleep(0.03)
        os.kill(os.getpid(), signal.SIGTERM)  # as Slurm does

    threading.Thread(target=send, daemon=True).start()
    code, started = sweep({RUNS[1]: "wait"})
    assert (code, started) == (STOPPED_EXIT_CODE, [RUNS[0].name, RUNS[1].name])
    told = capsys.readouterr().out
    assert "resume it: the same command" in told
    assert "Not complete: 2 runs" in told
    seconds = read_log_entry(sweep.directory, RUNS[1])["seconds"]
    assert sweep() == (0, [RUNS[1].name, RUNS[2].name])
    assert read_log_entry(sweep.directory, RUNS[1])["seconds"] > seconds


def test_a_second_interrupt_kills_the_run_and_ends_the_sweep(sweep, signal_handlers):
    def send():
        while not sweep.called.with_suffix(".ready").exists():
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    threading.Thread(target=send, daemon=True).start()
    code, started = sweep({RUNS[0]: "deaf"})
    assert (code, started) == (128 + signal.SIGINT, [RUNS[0].name])


def test_a_run_that_was_stopped_from_elsewhere_stops_the_sweep(sweep):
    assert sweep({RUNS[0]: "stop"}) == (STOPPED_EXIT_CODE, [RUNS[0].name])


def test_a_folder_in_use_is_refused(sweep):
    sweep()
    with run_lock(sweep.directory), pytest.raises(UsageError, match=str(os.getpid())):
        sweep()


def test_other_folders_are_refused(sweep, config_of):
    sweep.directory.write_text("")
    with pytest.raises(UsageError, match=f"--workdir={sweep.directory} is a file"):
        sweep()
    sweep.directory.unlink()
    sweep.directory.mkdir()
    (sweep.directory / "config.json").write_text(json.dumps({}))  # that of a run
    with pytest.raises(UsageError, match=f"--workdir={sweep.directory} contains files"):
        sweep()
    with pytest.raises(UsageError, match=f"={sweep.directory} contains no runs"):
        rewrite_tables(sweep.directory)
