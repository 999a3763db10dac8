import io
import sys

import pytest

from isojax.progress import SILENT, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def write(self, text):
        raise OSError("nobody reads this")


def work(progress):
    with progress.about("random encoder").phase(
        "features", total=2000, unit="images"
    ) as advance:
        for _ in range(2):
            advance(1000)


def test_a_file_contains_one_line_per_phase(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(Progress(shown=True))
    assert sys.stderr.getvalue() == "random encoder: features (2,000 images) ...\n"


def test_a_terminal_shows_the_time_left(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("isojax.progress._DELAY", 0)
    work(Progress(shown=True))
    shown = sys.stderr.getvalue()
    assert "random encoder: features" in shown and "2.00k" in shown and "<" in shown


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_progress_is_silent_by_default(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    work(SILENT)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("stream", [Closed(), None])
def test_a_stream_that_cannot_be_written_ends_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    work(Progress(shown=True))
    if stream is not None:
        assert sys.stderr is not stream  # but the null device
        sys.stderr.close()
