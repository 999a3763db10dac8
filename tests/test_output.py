import os
import sys

import pytest

from isojax.output import quiet_tensorflow, say

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@pytest.fixture
def unread():
    """A pipe that nobody reads."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as file:
        yield file


@pytest.fixture
def full():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as file:
        yield file


@pytest.mark.parametrize("output", ["unread", "full"])
def test_output_that_cannot_be_written_is_dropped(output, request, monkeypatch):
    file = request.getfixturevalue(output)
    monkeypatch.setattr(sys, "stdout", file)
    with pytest.raises(OSError):
        print("what nobody sees", flush=True)
    for _ in range(2):
        say("what nobody sees")
    print("nor this", flush=True)


def test_output_that_is_closed_is_dropped(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    say("what nobody sees", write=lambda text: sys.stdout.write(text))


def test_a_line_is_there_at_once(capfd):
    say("a line")
    assert capfd.readouterr().out == "a line\n"


@pytest.mark.parametrize(
    ("before", "after"), [(None, "2"), ("1", "2"), ("0", "0"), ("3", "3")]
)
def test_tensorflow_is_quiet_unless_the_user_chose(before, after, monkeypatch):
    monkeypatch.setattr(os, "environ", {} if before is None else {LEVEL: before})
    quiet_tensorflow()
    assert os.environ == {LEVEL: after, "TF_ENABLE_ONEDNN_OPTS": "0"}
