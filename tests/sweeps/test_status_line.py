import pytest

from isojax.sweeps import status_line
from isojax.sweeps.status_line import (
    Progress,
    StatusLine,
    in_words,
    seconds_left,
)


def test_no_estimate_without_a_finished_run():
    assert seconds_left([], waiting=3) is None
    resumed = Progress(part_done=0.5, elapsed=9)
    assert seconds_left([], waiting=3, active=[resumed]) is None


def test_the_current_run_predicts_the_waiting_ones():
    run = Progress(part_done=0.25, part_gained=0.25, elapsed=20)
    assert seconds_left([], waiting=3, active=[run]) == 80 * 3 + 60


def test_finished_runs_predict_the_waiting_ones_and_the_current_one_itself():
    assert seconds_left([100, 200], waiting=2, active=[Progress()]) == 450
    assert seconds_left([100], waiting=1, active=[Progress(part_done=0.75)]) == 125
    run = Progress(part_done=0.75, part_gained=0.25, elapsed=50)
    assert seconds_left([100, 200], waiting=1, active=[run]) == 150 + 50


def test_several_runs_at_a_time_share_the_work_but_each_takes_its_time():
    runs = [Progress(part_done=0.5), Progress()]
    assert seconds_left([100], waiting=4, active=runs, jobs=2) == 275
    assert seconds_left([100], waiting=0, active=runs, jobs=2) == 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (10, "less than a minute"),
        (70, "about a minute"),
        (720, "about 12 minutes"),
        (9000, "about 2.5 hours"),
    ],
)
def test_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize("is_terminal", [False, True])
def test_lines_that_stay_replace_the_status_line(is_terminal, monkeypatch, capsys):
    monkeypatch.setattr(status_line, "is_terminal", lambda stream: is_terminal)
    line = StatusLine()
    for text in ("2 active", "1 active"):
        line.show(text)
        line.show(text)
    line.print_above("a run has ended")
    line.clear()
    shown = "\r2 active\r1 active\r        \r" if is_terminal else ""
    assert capsys.readouterr().out == f"{shown}a run has ended\n"
