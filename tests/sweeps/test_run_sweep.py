"""Sweeps whose runs are stand-ins that train nothing."""

import csv
import json
import os
import signal
import threading
import time

import pytest

from isojax.errors import UsageError
from isojax.runs.lock import run_lock
from isojax.stopping import STOPPED_EXIT_CODE
from isojax.sweeps import claims
from isojax.sweeps.run_log import output_path, read_log_entry
from isojax.sweeps.run_sweep import rewrite_tables
from tests.sweeps.conftest import RUNS


def statuses(sweep):
    with (sweep.directory / "runs.csv").open() as file:
        return {row["folder"]: row["status"] for row in csv.DictReader(file)}


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


def test_a_sweep_of_another_process_that_holds_the_folder_is_refused(
    sweep, monkeypatch
):
    monkeypatch.setattr(claims, "_MOST_SECONDS", 0)
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
