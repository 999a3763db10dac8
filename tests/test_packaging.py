"""The installed package: its requirements, configs, commands and optional parts."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import isojax
from isojax import invocation
from isojax.commands.config_flag import find_config
from isojax.configs import config_names
from isojax.errors import UsageError
from tests.hidden_packages import hide

ROOT = Path(__file__).parent.parent
MATHEMATICS = ("losses", "predictor", "spectral", "schedules", "dynamics")
# What the mathematics must do without.
HEAVY = ("absl", "flax", "jinja2", "matplotlib", "ml_collections", "orbax", "PIL")
HEAVY += ("safetensors", "tensorflow", "tensorflow_datasets", "tqdm")


def run(program, *, without=()):
    """Runs a program in which some packages cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", hide(*without) + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_requirements_are_those_of_the_package_with_data_sets_and_streaming():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line.partition("#")[0].strip() for line in lines]
    extras = project["optional-dependencies"]
    packages = project["dependencies"] + extras["data"] + extras["streaming"]
    assert sorted(filter(None, required)) == sorted(packages)


def test_the_mathematics_needs_few_packages():
    # chex imports absl of its own accord.
    heavy = [name for name in HEAVY if name != "absl"]
    modules = ", ".join(f"isojax.{name}" for name in MATHEMATICS)
    process = run(f"import {modules}", without=heavy)
    assert process.returncode == 0, process.stderr


def test_parts_are_imported_when_they_are_first_used():
    process = run(
        "import isojax; before = set(sys.modules)\n"
        "assert 'jax' not in before\n"
        "isojax.losses.cosine_loss, isojax.predictor.direct_predictor\n"
        "assert 'isojax.training' not in sys.modules\n"
        "assert set(isojax._PARTS) <= set(dir(isojax))"
    )
    assert process.returncode == 0, process.stderr
    with pytest.raises(AttributeError, match="no attribute 'lossse'"):
        _ = isojax.lossse


def test_without_tensorflow_a_set_that_is_not_prepared_is_refused(tmp_path):
    process = run(
        "from isojax.data import ImageSource, load_dataset\n"
        "from isojax.errors import UsageError\n"
        "assert len(load_dataset(ImageSource('digits', 28)).train.labels) == 4000\n"
        f"try: load_dataset(ImageSource('cifar10', 32), data_dir={str(tmp_path)!r})\n"
        "except UsageError as error: print(error)",
        without=("tensorflow", "tensorflow_datasets"),
    )
    assert "cifar10" in process.stdout, process.stderr
    assert "pip install tensorflow-cpu" in process.stdout


def test_without_tensorflow_an_unknown_set_is_refused_by_its_name(tmp_path):
    process = run(
        "from isojax.data import ImageSource, load_dataset\n"
        "from isojax.errors import UsageError\n"
        f"try: load_dataset(ImageSource('digit', 28), data_dir={str(tmp_path)!r})\n"
        "except UsageError as error: print(error)",
        without=("tensorflow",),
    )
    assert "'digit'" in process.stdout, process.stderr
    assert "digits" in process.stdout


@pytest.mark.parametrize("name", config_names())
def test_configs_have_the_packaged_ones(name):
    packaged = importlib.import_module(f"isojax.configs.{name}")
    here = importlib.import_module(f"configs.{name}")
    assert here.get_config is packaged.get_config
    assert find_config(f"{name}:byol").endswith(f"isojax/configs/{name}.py:byol")


def test_a_file_comes_before_a_packaged_config_of_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("")
    assert find_config("digits") == "digits"


def test_a_config_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(UsageError, match="no config file cifar11") as error:
        find_config("cifar11")
    for name in config_names():
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("program", "evaluate", "report"),
    [
        ("isojax train", "isojax evaluate", "isojax report"),
        ("python train.py", "python eval_linear.py", "python -m isojax report"),
        ("/usr/bin/pytest", "python -m isojax evaluate", "python -m isojax report"),
    ],
)
def test_commands_are_written_as_the_process_was_started(
    program, evaluate, report, monkeypatch
):
    monkeypatch.setattr(sys, "argv", [program, "--config=digits"])
    assert invocation.command("evaluate", "--workdir=a b") == (
        f"{evaluate} '--workdir=a b'"
    )
    assert invocation.command("report") == report


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 0, "commands:\n  train "),
        (["--help"], 0, "commands:\n  train "),
        (["--version"], 0, f"isojax {isojax.__version__}\n"),
        (["trian"], 2, "there is no command 'trian'; the nearest is 'train'"),
        (["train", "--help"], 0, "usage: python -m isojax train "),
        (["launch", "--help"], 0, "usage: python -m isojax launch "),
        (["report", "--workdir="], 2, "flag --workdir=: the path is empty"),
    ],
)
def test_one_command_has_all_others(arguments, code, text):
    process = subprocess.run(
        [sys.executable, "-m", "isojax", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == code
    assert text in (process.stderr if code else process.stdout)
    assert process.stderr.count("\n") == (1 if code else 0)


@pytest.mark.slow
def test_an_installed_package_trains_from_any_directory(tmp_path):
    """Beside the dependencies of this environment; needs a package index."""
    target = tmp_path / "site"
    deleted = ROOT / "build/lib/isojax/deleted_since_the_earlier_build.py"
    deleted.parent.mkdir(parents=True, exist_ok=True)
    deleted.touch()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
        + ["--target", target, ROOT],
        check=True,
    )
    assert (target / "isojax" / "losses.py").exists()
    assert not (target / "isojax" / deleted.name).exists()
    start = [sys.executable, "-c"]
    start += [f"import sys; sys.path[0] = {str(target)!r}; sys.argv[0] = 'isojax'\n"]
    start[-1] += "from isojax.commands.main import main; main()"
    small = ["--config.model.width=4", "--config.model.hidden_dim=16"]
    small += ["--config.epochs=2", "--config.optimizer.warmup_epochs=0.5"]
    small += ["--config.steps=4", "--config.method.target=online"]
    (tmp_path / "elsewhere").mkdir()
    for arguments in (
        ["train", "--config=digits", *small, "--workdir=run"],
        ["report", "--workdir=run"],
        ["export", "--workdir=run"],
    ):
        process = subprocess.run(
            [*start, *arguments],
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        if arguments[0] == "train":
            assert "Next: isojax evaluate --workdir=run" in process.stdout
    assert (tmp_path / "elsewhere" / "run" / "report.html").exists()
