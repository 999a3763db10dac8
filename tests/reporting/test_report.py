import json
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from isojax.errors import UsageError
from isojax.reporting import html_report
from isojax.reporting.closing import (
    announce_next_commands,
    announce_report,
    next_commands,
)
from isojax.reporting.html_report import write_report
from tests.reporting.folders import add_evaluation, add_views, make_run

SECTIONS = {
    "accuracy": "0.900",
    "recipe": "digits:byol",
    "learning": "<svg",
    "spectrum": "<svg",
    "views": "data:image/webp",
    "neighbours": "data:image/webp",
    "embedding": "<svg",
    "confusion": "<svg",
}
NEEDS_EVALUATION = ("accuracy", "neighbours", "embedding", "confusion")


class Page(HTMLParser):
    """The text of each section, and every address that the page names."""

    def __init__(self, path):
        super().__init__()
        self.content = Path(path).read_text()
        self.sections = dict(
            re.findall(r'<section id="(\w+)">(.*?)</section>', self.content, re.DOTALL)
        )
        self.tags, self.addresses = [], []
        self.feed(self.content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href", "data", "srcset")
        ]


@pytest.fixture
def whole(tmp_path):
    folder = make_run(tmp_path / "whole")
    add_views(folder)
    add_evaluation(folder)
    return folder


def test_a_whole_run_has_every_section(whole):
    page = Page(write_report([whole]))
    for section, content in SECTIONS.items():
        assert content in page.sections[section], section
    assert "has another predictor" in page.sections["theory"]
    assert "isojax evaluate" not in page.content
    assert "1 of 4" in page.sections["confusion"]  # the misread image


def test_the_page_stands_alone_and_is_small(whole):
    page = Page(write_report([whole]))
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import", page.content)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.content) < 5e6


def test_missing_results_are_reported_with_the_command_that_adds_them(tmp_path):
    folder = make_run(tmp_path / "a b")
    page = Page(write_report([folder]))
    for section in NEEDS_EVALUATION:
        assert "<svg" not in page.sections[section]
        assert "python -m isojax evaluate &#39;--workdir=" in page.sections[section]
    assert "figures/views.npz" in page.sections["views"]


def test_special_characters_in_names_are_escaped(tmp_path):
    odd = "<script>alert('1')</script>"
    folder = make_run(tmp_path / "<b>&'run'", preset="byol")
    config = json.loads((folder / "config.json").read_text())
    config["preset"] = odd
    (folder / "config.json").write_text(json.dumps(config))
    add_evaluation(folder, names=(odd, "$x_", "<i>&amp;"), note="</pre><b>")
    page = Page(write_report([folder]))
    assert not {"script", "i"} & set(page.tags)
    assert "&lt;script&gt;" in page.sections["neighbours"]
    assert "$x_" in page.sections["confusion"]
    assert page.tags.count("b") == Page(
        write_report([folder], tmp_path / "again.html")
    ).tags.count("b")
    assert "<b>&" not in page.content


@pytest.mark.parametrize("name", ["config.json", "linear_eval.json", "evaluation.npz"])
def test_a_damaged_file_is_named(whole, name):
    (whole / name).write_bytes(b"PK torn")
    with pytest.raises(UsageError, match=f"{name} cannot be read.*restore it"):
        write_report([whole])


def test_changed_fields_stand_beside_their_defaults(tmp_path):
    folder = make_run(tmp_path / "run", method__target_decay=0.5)
    recipe = Page(write_report([folder])).sections["recipe"]
    assert "config.method.target_decay</code></td><td>0.98</td><td>0.5" in recipe
    assert "config.method.alpha</code>" not in recipe


def test_unknown_fields_of_the_evaluation_are_ignored(tmp_path):
    folder = make_run(tmp_path / "run")
    add_evaluation(folder, accuracy_of_later={"mean": 0.7}, knn_accuracy={"20": None})
    accuracy = Page(write_report([folder])).sections["accuracy"]
    assert "accuracy_of_later" in accuracy and "20-NN" not in accuracy


def test_what_other_protocols_found_is_shown(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / "checkpoints" / "50").mkdir(parents=True)
    (folder / "checkpoints" / "50" / "checksums.json").touch()
    add_evaluation(
        folder,
        step=40,
        finetune_accuracy=0.951,
        label_fractions=[{"fraction": 0.01, "num_train": 2, "accuracy": 0.123}],
        curve=[{"step": 10, "accuracy": 0.1}, {"step": 40, "accuracy": 0.2}],
    )
    page = Page(write_report([folder]))
    accuracy = page.sections["accuracy"]
    for text in ("fine-tuned", "0.951", "2 (0.01 of all)", "0.123", "<svg"):
        assert text in accuracy
    assert "of step 40; the newest checkpoint is of step 50" in page.content


def test_a_collapse_is_reported_at_the_top(tmp_path):
    folder = make_run(tmp_path / "run")
    rows = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"train/std": 1e-4}) for row in rows]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (folder / "not_finite.json").write_text('{"step": 51, "first": "loss"}')
    content = Page(write_report([folder])).content
    assert content.index("The representation has collapsed by epoch 2") < content.index(
        'id="accuracy"'
    )
    assert "diverged in step 51: the loss became non-finite" in content


@pytest.mark.parametrize("epochs", [1, 9])
@pytest.mark.parametrize("preset", ["byol", "isoloss"])
def test_a_spectrum_of_zeros_is_drawn(tmp_path, preset, epochs):
    folder = make_run(tmp_path / "run", preset=preset, epochs=epochs, scale=0.0)
    page = Page(write_report([folder]))
    assert page.sections["spectrum"].count("<svg") == 4
    assert "<svg" not in page.sections["theory"]


def test_several_runs_are_compared(tmp_path):
    folders = [make_run(tmp_path / "a"), make_run(tmp_path / "b", epochs=3)]
    add_evaluation(folders[0])
    page = Page(write_report(folders, tmp_path / "both.html"))
    assert "<b>0.900</b>" in page.sections["table"]
    assert f"--workdir={folders[1]}</code>." in page.sections["table"]
    assert page.sections["curves"].count("<svg") == 6
    assert "epochs</code></td><td>5</td><td>3" in page.sections["differences"]
    assert all(address.startswith("#") for address in page.addresses)


@pytest.mark.parametrize("evaluated", [(2, 4), (4,), ()])
def test_the_last_evaluated_epoch_is_shown(tmp_path, evaluated):
    folders = [
        make_run(tmp_path / name, evaluated=evaluated if name == "a" else (5,))
        for name in "ab"
    ]
    page = Page(write_report(folders[:1])).content
    assert ("50.0%" in page) == bool(evaluated)
    assert ("Effective rank" in page) == bool(evaluated)
    both = write_report(folders, tmp_path / "both.html")
    compared = Page(both).sections["table"]
    assert compared.count(">4.0<") == 1 + bool(evaluated)


def test_runs_of_different_data_sets_are_refused(tmp_path):
    folders = [
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", data__name="cifar10"),
    ]
    with pytest.raises(UsageError, match="digits .*, cifar10 "):
        write_report(folders, tmp_path / "both.html")
    assert not (tmp_path / "both.html").exists()


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match="no run in "):
        write_report([tmp_path])
    with pytest.raises(UsageError, match="has no finished epoch yet"):
        write_report([make_run(tmp_path / "young", epochs=0)])
    announce_report(tmp_path)
    line = "Warning: no report was written (there is no run"
    assert capsys.readouterr().out.startswith(line)


def test_a_failed_report_does_not_fail_the_command(whole, capsys, monkeypatch):
    monkeypatch.setattr(html_report, "run_page", lambda run: 1 / 0)
    announce_report(whole)
    (whole / "config.json").write_text('{"data": 1}')
    announce_next_commands(whole)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "no report was written (ZeroDivisionError: division by zero" in lines[0]
    assert "config.json" in lines[1]
    assert "cannot be read" in lines[1]


def test_a_folder_name_may_contain_bytes_that_are_not_utf8(tmp_path):
    folder = make_run(tmp_path / os.fsdecode(b"caf\xe9"))
    assert "caf?" in Path(write_report([folder])).read_text()


def test_the_next_command_brings_another_method(tmp_path):
    commands = next_commands(make_run(tmp_path / "demo", preset="isoloss"))
    assert "digits:byol" in commands
    assert f"--workdir={tmp_path}/demo {tmp_path}/byol" in commands


def test_the_next_command_can_be_copied_for_a_folder_with_a_space(tmp_path):
    commands = next_commands(make_run(tmp_path / "my demo", preset="isoloss"))
    last = shlex.split(commands.splitlines()[-1])
    assert last[-2:] == [f"--workdir={tmp_path}/my demo", f"{tmp_path}/byol"]


def test_the_next_command_needs_no_report(tmp_path):
    folder = make_run(tmp_path / "demo", preset="isoloss")
    (folder / "metrics.jsonl").write_text("{")
    assert "digits:byol" in next_commands(folder)


def test_the_command_takes_several_folders_and_needs_no_jax(tmp_path):
    folders = [str(make_run(tmp_path / name)) for name in "ab"]
    output = tmp_path / "page.html"
    program = (
        "import runpy, sys; sys.modules['jax'] = None; "
        "runpy.run_module('isojax.report', run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, f"--workdir={folders[0]}", folders[1]]
        + [f"--output={output}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert output.exists() and str(output) in process.stdout


class Names(HTMLParser):
    """What a screen reader says of drawings, pictures and headers of tables."""

    def __init__(self, path):
        super().__init__()
        self.drawings, self.pictures, self.headers = [], [], []
        self._in_header = False
        self.feed(Path(path).read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "svg":
            assert attributes["role"] == "img"
            self.drawings.append(attributes.get("aria-label"))
        elif tag == "img":
            self.pictures.append(attributes.get("alt"))
        elif tag == "th":
            self.headers.append("")
        self._in_header = tag == "th" or (self._in_header and tag != "td")

    def handle_endtag(self, tag):
        self._in_header = self._in_header and tag != "th"

    def handle_data(self, data):
        if self._in_header:
            self.headers[-1] += data.strip()


def test_drawings_pictures_and_headers_have_names_of_their_own(tmp_path):
    first, second = (
        make_run(tmp_path / name, preset="isoloss", method__target="online")
        for name in ("first", "second")
    )
    for folder in (first, second):
        add_views(folder)
        add_evaluation(folder, names=("<zero>", "one", "two"))
    page = Names(write_report([first]))
    assert len(page.drawings) > 8 and len(page.pictures) == 2 * 5 + 2 * 4
    both = Names(write_report([first, second], tmp_path / "both.html"))
    assert both.drawings and both.headers
    for found in (page.drawings, page.pictures, both.drawings):
        assert all(found) and len({*found}) == len(found)
    assert all(page.headers + both.headers)
    # A caption of its own is beside each picture; see the section's text.
    assert not {*page.pictures} & {"<zero>", "one", "two", "image", "step 1, view 1"}
    assert "Test image 2" in page.pictures
    assert "Training image, neighbour 3 of test image 1" in page.pictures
    assert "Training image 2, step 1, view 2" in page.pictures
