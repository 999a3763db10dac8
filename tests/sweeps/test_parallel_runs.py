"""Sweeps with several runs at a time, and several sweeps of one folder."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from isojax.errors import UsageError
from isojax.runs import bucket
from isojax.runs.bucket import Bucket
from isojax.runs.mirror import local_folder, lock_part
from isojax.stopping import STOPPED_EXIT_CODE
from isojax.sweeps import execute
from isojax.sweeps.claims import claim_run
from isojax.sweeps.run_sweep import rewrite_tables
from tests.sweeps.conftest import RUNS


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(execute, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(execute, "_IDLE_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(execute, "_IDLE_SECONDS", 0.2)


@pytest.fixture
def when_ready(sweep):
    """`when_ready(action, count)` calls `action` once `count` stand-ins wait."""

    def begin(action, count):
        def wait():
            ready = sweep.called.with_suffix(".ready")
            while not ready.exists() or ready.read_text().count("\n") < count:
                time.sleep(0.02)
            action()

        threading.Thread(target=wait, daemon=True).start()

    return begin


def test_two_runs_at_a_time(sweep, capsys):
    code, started = sweep(dict.fromkeys(RUNS[:2], "meet"), jobs=2)
    assert code == 0 and Counter(started) == Counter(run.name for run in RUNS)
    lines = capsys.readouterr().out.splitlines()
    for run in RUNS:
        assert sum(line.endswith(run.title) for line in lines) == 1
        assert sum(line.startswith(f"  {run.name} finished: ") for line in lines) == 1
    assert not [line for line in lines if "\r" in line]


def test_a_crash_ends_no_other_run_and_is_repeated_at_the_end(sweep, capsys):
    code, started = sweep({RUNS[0]: "crash"}, jobs=2)
    assert code == 1 and len(started) == 3
    assert f"Crashed: {RUNS[0].name}. " in capsys.readouterr().out.splitlines()[-1]


def test_after_a_user_error_active_runs_end_and_no_other_starts(sweep):
    with pytest.raises(UsageError, match="^there is no data set$"):
        sweep({RUNS[0]: "mistake", RUNS[1]: "meet"}, jobs=2)
    assert len(sweep.called.read_text().split()) == 2
    assert sweep() == (0, [RUNS[0].name, RUNS[2].name])


def test_a_signal_stops_all_active_runs(sweep, when_ready, signal_handlers):
    when_ready(lambda: os.kill(os.getpid(), signal.SIGTERM), 2)
    code, started = sweep(dict.fromkeys(RUNS, "wait"), jobs=2)
    assert code == STOPPED_EXIT_CODE and len(started) == 2
    assert sweep(jobs=2)[0] == 0


def sweep_at_once(sweep, workdirs, deeds):
    """Sweeps in several threads; gives the exit codes."""
    codes = []

    def begin(workdir):
        with local_folder(workdir) as folder:
            codes.append(sweep(deeds, workdir=folder)[0])

    threads = [threading.Thread(target=begin, args=[name]) for name in workdirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def test_two_sweeps_of_a_folder_take_different_runs(sweep, monkeypatch):
    monkeypatch.setattr(execute, "_IDLE_SECONDS", 30)
    deeds = dict.fromkeys(RUNS[:2], "meet")
    assert sweep_at_once(sweep, [sweep.directory] * 2, deeds) == [0, 0]
    assert sorted(sweep.called.read_text().split()) == [run.name for run in RUNS]
    table = (sweep.directory / "table.md").read_text()
    assert "Not complete" not in table and table == rewrite_tables(sweep.directory)


@pytest.fixture
def thread_safe_bucket(memory_bucket, monkeypatch):
    """The bucket in memory, of which requests are answered one by one."""
    lock, errors = threading.RLock(), bucket._errors

    @contextmanager
    def one_by_one():
        with lock, errors():
            yield

    monkeypatch.setattr(bucket, "_errors", one_by_one)
    return memory_bucket


def test_two_sweeps_of_a_bucket_take_different_runs(
    sweep, thread_safe_bucket, monkeypatch
):
    monkeypatch.setattr(execute, "_IDLE_SECONDS", 30)
    deeds = dict.fromkeys(RUNS[:2], "meet")
    assert sweep_at_once(sweep, [thread_safe_bucket.url] * 2, deeds) == [0, 0]
    assert sorted(sweep.called.read_text().split()) == [run.name for run in RUNS]
    assert b"Not complete" not in thread_safe_bucket.read("table.md")
    assert not [name for name in thread_safe_bucket.find() if "run.lock" in name]


def test_the_runs_of_another_process_are_left_to_it_and_named(sweep, capsys):
    with claim_run(sweep.directory, RUNS[1], on_loss=lambda: None):
        assert sweep() == (0, [RUNS[0].name, RUNS[2].name])
    told = capsys.readouterr().out
    assert "Not complete: 1 run is" in told
    assert f"{RUNS[1].name} (process {os.getpid()} on " in told.splitlines()[-1]
    assert sweep() == (0, [RUNS[1].name])


def test_a_run_that_trains_without_a_claim_is_left_alone(sweep):
    sweep({RUNS[0]: "stop"})
    (sweep.directory / RUNS[0].name).mkdir()
    with lock_part(sweep.directory, RUNS[0].name):
        assert sweep()[1] == [RUNS[1].name, RUNS[2].name]


def test_a_run_is_taken_when_its_process_has_ended(sweep, monkeypatch):
    monkeypatch.setattr(execute, "_IDLE_SECONDS", 30)
    other = ExitStack()
    other.enter_context(claim_run(sweep.directory, RUNS[0], on_loss=lambda: None))

    def end():
        while sweep.called.read_text().count("\n") < 2:
            time.sleep(0.02)
        other.close()

    threading.Thread(target=end, daemon=True).start()
    assert sweep() == (0, [RUNS[1].name, RUNS[2].name, RUNS[0].name])


def test_only_one_process_repeats_a_failed_run(sweep, monkeypatch):
    sweep({RUNS[0]: "crash"})
    run = execute.Executor.run

    def after_another(executor):
        monkeypatch.setattr(execute.Executor, "run", run)
        sweep({RUNS[0]: "crash"}, retry=True)
        return run(executor)

    monkeypatch.setattr(execute.Executor, "run", after_another)
    assert sweep(retry=True) == (1, [RUNS[0].name])


def test_a_run_that_was_taken_over_in_the_bucket_is_stopped(
    sweep, memory_bucket, when_ready, monkeypatch, capsys
):
    monkeypatch.setattr("isojax.runs.lease.RENEWED_SECONDS", 0.1)
    claim = Bucket(f"{memory_bucket.url}/records/{RUNS[0].name}")
    owner = b'{"process": 5, "host": "b"}'
    when_ready(lambda: claim.create("run.lock/000002", owner), 1)
    with local_folder(memory_bucket.url) as folder:
        assert sweep({RUNS[0]: "wait"}, workdir=folder)[0] == 0
    told = capsys.readouterr().out
    assert f"{RUNS[0].name}: taken over" in told
    assert f"{RUNS[0].name} (process 5 on b)" in told.splitlines()[-1]
