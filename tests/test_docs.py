"""The pages: their links, commands and code, and what is made from the code."""

import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

import isojax.training
from docs import docstrings, generate
from isojax.commands import command_line
from isojax.commands.main import COMMANDS
from isojax.data import Split, load_dataset
from isojax.training import assembly, encoder
from isojax.training.method import STANDARD_LOSSES
from isojax.training.settings import image_source
from tests.training.tiny_network import make_network

ROOT = Path(__file__).parent.parent
SITE = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if "_build" not in path.relative_to(ROOT).parts
)
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "isojax/data/DIGITS.md", *SITE]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPTS = {"train.py": "train", "eval_linear.py": "evaluate"}

all_pages = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


def blocks(page, language):
    return [text for name, text in FENCE.findall(page.read_text()) if name == language]


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    ]


def test_the_theory_names_existing_tests():
    page = (ROOT / "docs/theory.md").read_text()
    named = re.findall(r"`([\w/]*\.py)?::(\w+)`", page)
    assert len(named) > 60
    path = None
    for name, test in named:
        path = name or path
        tests = (ROOT / "tests" / path).read_text()
        assert f"def {test}(" in tests, (path, test)


@all_pages
def test_links_have_existing_targets(page):
    for link, anchor in generate.LINK.findall(FENCE.sub("", page.read_text())):
        if "://" not in link:
            target = (page.parent / link).resolve()
            assert target.exists() and target.is_relative_to(ROOT), link
            assert not anchor or anchor.removeprefix("#") in anchors(target), anchor


def test_every_page_is_in_the_menu():
    menus = [ROOT / "docs/index.md", ROOT / "docs/api/index.md"]
    linked = {menus[0]}
    for menu in menus:
        name = str(menu.relative_to(ROOT / "docs")).removesuffix(".md")
        lines = generate.toctree(name, menu.read_text()).splitlines()[2:-1]
        linked |= {(menu.parent / f"{line}.md").resolve() for line in lines}
    assert linked == set(SITE)


@all_pages
def test_what_code_imports_from_isojax_is_there(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("isojax"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    is_there = hasattr(module, alias.name) or importlib.util.find_spec(
                        f"{node.module}.{alias.name}"
                    )
                    assert is_there, alias.name


@cache
def known_flags(command):
    return set(re.findall(r"--(\w+)", generate.help_of("-m", "isojax", command)))


def command_and_arguments(line):
    """The command of isojax that a line of a shell runs, and what follows it."""
    words = shlex.split(line, comments=True)
    for place, word in enumerate(words):
        if word in SCRIPTS:
            return SCRIPTS[word], words[place + 1 :]
        if word in COMMANDS and words[place - 1 : place] == ["isojax"]:
            return word, words[place + 1 :]
    return None, []


def test_commands_in_a_line_are_found():
    assert command_and_arguments("srun isojax train --a=1") == ("train", ["--a=1"])
    assert command_and_arguments("python eval_linear.py --b") == ("evaluate", ["--b"])
    assert command_and_arguments("make isojax") == (None, [])


@all_pages
def test_commands_have_flags_and_fields_that_exist(page):
    fields = generate.meanings()
    for line in "".join(blocks(page, "")).splitlines():
        command, arguments = command_and_arguments(line)
        for word in arguments:
            name = word.removeprefix("--").split("=")[0]
            if name.startswith("config."):
                assert name.removeprefix("config.") in fields, line
            elif word.startswith("--"):
                assert name in known_flags(command), line


@pytest.mark.parametrize("name", ["slurm", "slurm_sweep"])
def test_the_batch_scripts_are_quoted_without_their_comments(name):
    lines = (ROOT / f"scripts/{name}.sbatch").read_text().splitlines()
    code = [line for line in lines if not re.match(r" *#( |$)", line)]
    assert "\n".join(["```", *code, "```"]) in (ROOT / "docs/running.md").read_text()


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.stem)
def test_generated_parts_can_be_made(page):
    name = str(page.relative_to(ROOT / "docs")).removesuffix(".md")
    text = generate.fill(name, page.read_text())
    assert "<!-- generated" not in text


def test_the_table_has_every_field_with_its_meaning():
    table = generate.config_fields()
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    paper, digits = generate._flat("cifar10"), generate._flat("digits")
    assert {row[0].strip("| `") for row in rows} == {*paper, *digits}
    for field, ours, theirs, meaning in rows:
        assert meaning.strip("| "), f"{field} has no comment in isojax/configs/base.py"
        assert ours.strip() or theirs.strip()
    assert (
        "| `batch_size` | `512` | `64` | images per step, over all devices |" in table
    )
    assert (
        table.index("`seed`") < table.index("`epochs`") < table.index("`model.width`")
    )


def test_docstrings_are_converted_to_rst():
    lines = ["A |p|, `x_` and a * b_.", "", "  z_ = |w|", "", "Args:", "  x: |x|."]
    lines += ["", "Example:", "  >>> 2 * x_", "", "Source: |x|."]
    assert docstrings.as_rst(lines) == [
        r"A \|p\|, ``x_`` and a \* b\_.",
        "",
        "::",
        "",
        "  z_ = |w|",
        "",
        "Args:",
        r"  x: \|x\|.",
        "",
        "Example:",
        "  >>> 2 * x_",
        "",
        r"Source: \|x\|.",
    ]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = blocks(ROOT / "docs/extending.md", "python")
    assert all(len(code.splitlines()) <= 40 for code in codes)
    return dict(zip(("loss", "data"), codes, strict=True))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Runs an example of own data and networks for two steps; returns its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    codes = blocks(ROOT / "docs/own_data_and_network.md", "python")
    assert all(len(code.splitlines()) < 25 for code in codes)
    codes = dict(zip(("arrays", "folder", "network"), codes, strict=True))
    pretrain = isojax.training.pretrain

    def pretrain_little(config, workdir, **own):
        config.update(steps=2, batch_size=32)
        config.optimizer.warmup_epochs = 0.0
        config.model.update(hidden_dim=16, predictor_hidden_dim=16)
        return pretrain(config, workdir, **own)

    def run(name):
        exec(compile(codes[name], f"{name}.py", "exec"), {"__name__": "__main__"})
        (workdir,) = Path("runs").iterdir()
        return json.loads((workdir / "linear_eval.json").read_text())

    monkeypatch.setattr(isojax.training, "pretrain", pretrain_little)
    return run


@pytest.fixture
def tiny_backbone(monkeypatch):
    def build(settings, *, predictor=None, axis_name=None, **_):
        return make_network(predictor, axis_name)  # compiles in a second

    for module in (assembly, encoder):
        monkeypatch.setattr(module, "build_network", build)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_the_example_of_arrays_trains(own, capsys):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    np.savez("photos.npz", images=pixels, labels=np.arange(300) % 3)
    result = own("arrays")
    assert (result["num_train"], result["num_test"]) == (100, 200)
    assert "linear readout: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_the_example_of_a_folder_trains(own):
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for name in ("cat", "dog"):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    result = own("folder")
    assert (result["num_train"], result["num_test"]) == (40, 10)


@pytest.mark.slow
def test_the_example_of_a_network_trains(own):
    assert own("network")["num_test"] == 1000


@pytest.mark.long
def test_the_example_of_a_loss_trains(examples, monkeypatch):
    pretrain = isojax.training.pretrain

    def pretrain_little(config, workdir):
        config.steps = 2
        full = load_dataset(image_source(config.data))
        few = {"pretrain": full.pretrain, "evaluation": full.evaluation}
        few = {name: Split(*(a[::20] for a in split)) for name, split in few.items()}
        return pretrain(config, workdir, dataset=full._replace(**few))

    def build(settings, *, predictor=None, axis_name=None, **_):
        return make_network(predictor, axis_name)  # compiles in a second

    monkeypatch.setattr(isojax.training, "pretrain", pretrain_little)
    monkeypatch.setattr(assembly, "build_network", build)
    with patch.dict(STANDARD_LOSSES):
        exec(compile(examples["loss"], "huber.py", "exec"), {"__name__": "__main__"})
    config = json.loads(Path("runs/huber/config.json").read_text())
    assert config["method"]["metric"] == "huber"
    row = json.loads(Path("runs/huber/metrics.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 2 and row["train/loss"] > 0


def test_the_example_of_a_data_set_reads_its_images(examples, monkeypatch):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("circle", "square"):
            folder = Path("shapes", split, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    found = []
    monkeypatch.setattr(
        isojax.training,
        "pretrain",
        lambda config, workdir, data_dir: found.append(
            load_dataset(image_source(config.data), data_dir=data_dir)
        ),
    )
    Path("example.py").write_text(examples["data"])
    spec = importlib.util.spec_from_file_location("example", "example.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "example", module)
    monkeypatch.setattr(command_line, "run", lambda main: main())
    spec.loader.exec_module(module)
    (dataset,) = found
    assert dataset.label_names == ("circle", "square")
    assert dataset.pretrain.images.shape == (6, 32, 32, 3)
    assert sorted(dataset.evaluation.labels) == [0, 0, 1, 1]


@pytest.mark.long
def test_the_example_of_a_data_set_names_a_damaged_image(examples):
    for split, name in itertools.product(("train", "test"), "ab"):
        folder = Path("shapes", split, name)
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 48)).save(folder / "0.png")
    Path("shapes/train/a/0.png").write_bytes(b"")
    Path("shapes.py").write_text(examples["data"])
    process = subprocess.run(
        [sys.executable, "shapes.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2, process.stderr
    assert re.fullmatch(
        r"error: image \d of shapes's train, file=shapes/train/a/0.png has 0 by.*\n",
        process.stderr,
    )
