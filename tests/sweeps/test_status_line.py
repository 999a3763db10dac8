import pytest

from isojax.sweeps.status_line import in_words, seconds_left


def test_nothing_is_foretold_without_a_run_to_go_by():
    assert seconds_left([], waiting=3) is None
    assert seconds_left([], waiting=3, part_done=0.5, elapsed=9) is None  # resumed


def test_the_present_run_foretells_the_others():
    left = seconds_left([], waiting=3, part_done=0.25, part_gained=0.25, elapsed=20)
    assert left == 80 * 3 + 60


def test_finished_runs_foretell_those_to_come_and_the_present_one_itself():
    assert seconds_left([100, 200], waiting=2) == 450
    assert seconds_left([100], waiting=1, part_done=0.75) == 125
    left = seconds_left(
        [100, 200], waiting=1, part_done=0.75, part_gained=0.25, elapsed=50
    )
    assert left == 150 + 50


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
