import io
import os
import sys

import pytest

from isojax.errors import UsageError
from isojax.output import (
    accept_all_characters,
    is_terminal,
    print_line,
    quiet_tensorflow,
    run_optional,
)

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


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("output", ["unread", "full"])
def test_output_that_cannot_be_written_is_discarded(output, name, request, monkeypatch):
    file = request.getfixturevalue(output)
    monkeypatch.setattr(sys, name, file)
    with pytest.raises(OSError):
        print("a line", file=file, flush=True)
    for _ in range(2):
        print_line("a line", stream=file)
    print("a line", file=file, flush=True)


def test_output_that_the_shell_has_closed_is_discarded(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    print_line("a line", write=lambda text, file: file.write(text))


class Broken(io.StringIO):
    """A stream of another program, such as a notebook's, which fails in its own way."""

    def write(self, text):
        raise RuntimeError("no kernel")


@pytest.mark.parametrize("make", [Broken, lambda: open(os.devnull, "w")])
def test_a_stream_without_a_usable_descriptor_is_replaced(make, monkeypatch):
    stream = make()
    if not isinstance(stream, Broken):
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    print_line("a line")
    assert sys.stdout is not stream
    print("a line", flush=True)
    sys.stdout.close()


def test_a_line_is_written_at_once(capfd):
    print_line("a line")
    assert capfd.readouterr().out == "a line\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "0.9 +- 0.1 - 3x3 ? ?\n"),
        ("latin-1", "0.9 ± 0.1 - 3×3 ? ?\n"),
        ("utf-8", "0.9 ± 0.1 – 3×3 λ ?\n"),
    ],
)
@pytest.mark.parametrize("is_prepared", [True, False])
def test_characters_that_the_encoding_lacks_are_replaced(
    monkeypatch, encoding, expected, is_prepared
):
    text = "0.9 ± 0.1 – 3×3 λ \udce9"  # the last from a file's name that is not UTF-8
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(UnicodeEncodeError):
        print(text)
    if is_prepared:
        accept_all_characters()
        print(text, flush=True)
    else:
        print_line(text)
    assert stream.buffer.getvalue().decode(encoding) == expected


def test_streams_without_an_encoding_are_left_as_they_are(monkeypatch):
    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        accept_all_characters()
        print_line("±")
    assert stream.getvalue() == "±\n"


def test_a_missing_or_closed_stream_is_no_terminal():
    closed = open(os.devnull, "w")
    closed.close()
    assert not any(map(is_terminal, (None, closed, io.StringIO())))


@pytest.mark.parametrize("error", [ValueError("odd shape\nmore"), MemoryError()])
def test_a_failed_attempt_is_logged_in_one_line_with_its_place(capsys, error):
    def draw():
        raise error

    assert not run_optional(draw, failure="The views were not drawn")
    line = draw.__code__.co_firstlineno + 1
    message = str(error).splitlines()[0] if str(error) else "no message"
    assert capsys.readouterr().out == (
        f"Warning: The views were not drawn ({type(error).__name__}: {message}, "
        f"tests/test_output.py:{line}).\n"
    )
    assert run_optional(lambda: None, failure="The views were not drawn")
    assert capsys.readouterr().out == ""


def test_a_user_s_mistake_is_described_by_its_message_alone(capsys):
    def write():
        raise UsageError("there is no run in x")

    run_optional(write, failure="No report was written")
    assert "No report was written (there is no run in x).\n" in capsys.readouterr().out


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_attempt_can_be_interrupted(error):
    def draw():
        raise error

    with pytest.raises(error):
        run_optional(draw, failure="The views were not drawn")


@pytest.mark.parametrize(
    ("before", "after"), [(None, "2"), ("1", "2"), ("0", "0"), ("3", "3")]
)
def test_tensorflow_is_quiet_unless_the_user_chose(before, after, monkeypatch):
    monkeypatch.setattr(os, "environ", {} if before is None else {LEVEL: before})
    quiet_tensorflow()
    assert os.environ == {LEVEL: after, "TF_ENABLE_ONEDNN_OPTS": "0"}
