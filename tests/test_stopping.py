"""Signals that ask a run to stop, with scripts that do not train."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isojax import stopping
from isojax.stopping import STOPPED_EXIT_CODE, RepetitionRule, Request, stop_signals

ROOT = Path(__file__).parent.parent
INT, TERM, HUP, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
# Trains until it is asked to stop, and then takes half a second to save.
SCRIPT = """
import sys, time
from isojax.stopping import STOPPED_EXIT_CODE, StopRequest
with StopRequest() as stop:
    stop.ends_at_once = "untrained" in sys.argv
    print("ready", flush=True)
    while not stop.is_set:
        time.sleep(0.01)
    print("stopping", flush=True)
    time.sleep(0.5)
    stop.has_stopped_run = True
print("saved", flush=True)
time.sleep(0.5)
sys.exit(STOPPED_EXIT_CODE)
"""


@pytest.fixture
def start():
    started = []

    def begin(*arguments, hangup=signal.SIG_DFL):
        before = signal.signal(HUP, hangup)  # inherited by the child
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(HUP, before)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("signals", "urgent"),
    [
        ([(0, TERM), (0.03, TERM), (9, TERM)], [False] * 3),  # Slurm under srun
        ([(0, HUP), (0.1, TERM), (0.2, USR1)], [False] * 3),
        ([(0, TERM), (11, TERM)], [False, True]),
        ([(0, USR1), (60, TERM)], [False, True]),
        ([(0, INT), (0.5, INT)], [False, True]),
        ([(0, INT), (0.001, INT)], [False, False]),  # timeout -s INT
        ([(0, INT), (0.5, TERM)], [False, False]),
        ([(0, TERM), (0.5, INT), (1, INT)], [False, False, True]),
        ([(0, TERM), (11, INT)], [False, True]),
    ],
)
def test_a_repeated_signal_is_urgent_only_from_a_person_or_late(
    monkeypatch, signals, urgent
):
    rule = RepetitionRule()
    found = []
    for seconds, number in signals:
        monkeypatch.setattr(stopping.time, "monotonic", lambda now=seconds: now)
        found.append(rule.classify(number))
    later = [Request.URGENT if is_urgent else Request.REPEATED for is_urgent in urgent]
    assert found == [Request.FIRST, *later[1:]]


@pytest.mark.parametrize("number", [TERM, INT, HUP, USR1])
def test_every_stop_signal_lets_the_run_save(start, number):
    process = start()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (STOPPED_EXIT_CODE, "stopping\nsaved\n")
    assert err == "\nStopping once the state is saved ...\n"


@pytest.mark.parametrize("number", [TERM, HUP, USR1])
def test_signals_that_a_scheduler_repeats_change_nothing(start, number):
    """At once, while the run saves, and while the process exits."""
    process = start()
    process.send_signal(number)
    time.sleep(0.03)
    process.send_signal(TERM)
    process.send_signal(signal.SIGCONT)
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    assert process.stdout.readline() == "saved\n"
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == STOPPED_EXIT_CODE


def test_a_second_interrupt_ends_the_process_at_once(start):
    process = start()
    process.send_signal(INT)
    assert process.stdout.readline() == "stopping\n"
    time.sleep(0.2)
    process.send_signal(INT)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (128 + INT, "")


@pytest.mark.parametrize("number", [TERM, INT, HUP, USR1])
def test_a_signal_ends_a_process_that_has_nothing_to_save(start, number):
    process = start("untrained")
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == STOPPED_EXIT_CODE == os.EX_TEMPFAIL
    assert out == "\nStopped; there was nothing to save.\n"


def test_a_hangup_stays_ignored_under_nohup(start):
    process = start(hangup=signal.SIG_IGN)  # as under nohup
    process.send_signal(HUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(TERM)
    process.communicate(timeout=10)
    assert process.returncode == STOPPED_EXIT_CODE


def test_the_signals_listened_to(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    assert set(stop_signals()) == {TERM, INT, USR1, HUP}
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    assert set(stop_signals()) == {TERM, INT, USR1}
