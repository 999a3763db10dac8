"""Errors of users: one line on standard error, exit code 2, nothing written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from absl import app, flags

from isojax.commands import main
from isojax.commands.help import format_help
from isojax.commands.path_flag import parse_path
from isojax.configs import digits
from isojax.errors import UsageError

ROOT = Path(__file__).parent.parent
# ml_collections loads config files by a function that Python deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


class Outcome(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def call(script, *arguments):
    """Runs a script or module in a process of its own."""
    where = [script] if script.endswith(".py") else ["-m", script]
    return subprocess.run(
        [sys.executable, *where, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process, which has imported JAX already."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", sys.argv)
    # All three change settings of the process.
    monkeypatch.setattr("absl.command_name.set_kernel_process_name", lambda name: None)
    monkeypatch.setattr("isojax.compilation.configure_cpu", lambda: None)
    monkeypatch.setattr(
        "isojax.compilation.enable_compilation_cache", lambda workdir: None
    )
    # absl's own initialises the process, which it does once.
    monkeypatch.setattr(
        app, "run", lambda main, flags_parser: main(flags_parser(sys.argv))
    )

    def run_command(name, *arguments):
        before = set(flags.FLAGS)
        sys.modules.pop(f"isojax.commands.{name}", None)
        try:
            main.run_command(name, arguments, program=f"isojax {name}")
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            for flag in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()
        return Outcome(code, *capsys.readouterr())

    return run_command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cofnig=x"], "Did you mean: config"),
        (["--config.epoch=3"], "'epoch'; the nearest is 'epochs'"),
        (
            ["--config=configs/digits.py", "--config.model.widht=3"],
            "'model.widht'; the nearest is 'model.width'",
        ),
        (["--config.epochs=ten"], "--config.epochs=ten: invalid literal for int()"),
        (
            ["--config=configs/digits.py:isolos"],
            "'isolos'; choose one of byol",
        ),
        (["--config=configs/digit.py"], "configs/digit.py"),
        (["epochs=3"], "'epochs=3'; write it as --name=value"),
        (
            ["--config.method.predictor=mlp"],
            "config.method.predictor",
        ),
        (["--config.batch_size=5000"], "4000 training images"),
        (["--config.epochs=0"], "config.epochs=0: "),
        (["--config.preset=byol"], "--config=NAME:PRESET"),
        (["--config.data.std=(0.0,)"], "config.data.std=(0.0,): "),
        (["--config.data.std=()"], "config.data.std=(): "),
        (["--config.augment.rotation=inf"], "rotation=inf: "),
        (["--config.seed=18446744073709551616"], "config.seed=18446744073709551616: "),
        (
            ["--config.optimizer={'learning_rate':0.2}"],
            "--config.optimizer.FIELD=VALUE",
        ),
        (["--config.augment_view2={}"], "--config.augment_view2.FIELD=VALUE"),
        (["--config.data.mean[0]=0.5"], "'data.mean[0]'"),
        (["--config.=3"], "field ''"),
        (["--config="], "--config=: "),
        (["--config=configs/digits.py", "--config="], "--config=: "),
        (
            ["--config=configs/digits.py:byol", "--config.method.alpha=2"],
            "--config.method.alpha=2.0 has no effect",
        ),
        (
            ["--config.data.name=/data/photos"],
            "config.data.name=/data/photos ",
        ),
        (["--config.data.folder=/no/photos"], "no folder /no/photos"),
        (["--config.data.folder=train.py"], "train.py is a file"),
        (["--config.data.folder=configs"], "configs contains no images"),
        (
            ["--config.data.folder=/no/photos", "--config.data.name=cifar10"],
            "--config.data.name=cifar10 has no effect",
        ),
        (
            ["--config.batch_size=8", "--config.microbatches=8"],
            "microbatches",
        ),
        (
            ["--config.data.validation_fraction=0.999"],
            "config.data.validation_fraction",
        ),
        (["--config.data.name=digit"], "'digit'"),
        (["--config.data.mean=(0.1,0.2,0.3)"], "mean and std"),
        (["--workdir=train.py"], "--workdir=train.py is a file"),
        (["--workdir=/dev/null/run"], "--workdir=/dev/null/run"),
        (["--workdir=configs"], "--workdir=configs"),
    ],
)
def test_train_refuses(run, arguments, message, tmp_path):
    workdir = tmp_path / "run"
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments = [*arguments, f"--workdir={workdir}"]
    outcome = run("train", *arguments)
    assert outcome.returncode == 2, outcome.stderr
    assert message in outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert not workdir.exists()


def test_train_refuses_the_folder_of_another_run(run, tmp_path):
    config = tmp_path / "config.json"
    stored = json.dumps(digits.get_config().to_dict() | {"epochs": 7})
    config.write_text(stored)
    outcome = run("train", f"--workdir={tmp_path}")
    assert outcome.returncode == 2
    assert re.search(r"epochs \(.*\b7\b.*\b50\b.*\)", outcome.stderr)
    assert "method.form" not in outcome.stderr
    assert config.read_text() == stored


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "--workdir"),
        ({"config.json": '{"epochs": '}, "config.json"),
    ],
)
def test_evaluate_refuses_a_folder_without_a_run(run, files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    process = run("evaluate", f"--workdir={tmp_path}")
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1


SCRIPTS = {
    "train.py": ["run:", "several processes:", "presets:", "--config.FIELD=VALUE"],
    "eval_linear.py": ["run:", "measurement:", "--config.data.FIELD=VALUE"],
    "isojax.export": ["file:", "--format=FORMAT"],
    "isojax.report": ["--workdir=DIR", "--output=FILE"],
    "isojax.profile": ["measurement:", "--trace=DIR", "--target=TARGET"],
    "isojax.sweep": ["runs:", "--seeds=N"],
    "isojax.launch": ["--processes N"],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_flags_in_groups_as_wide_as_the_terminal(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    process = call(script, "--help")
    assert (process.returncode, process.stderr) == (0, "")
    # As it is typed, not where the file lies.
    typed = script if script.endswith(".py") else f"-m {script}"
    assert process.stdout.startswith(f"usage: python {typed}")
    for part in SCRIPTS[script]:
        assert part in process.stdout
    assert max(map(len, process.stdout.splitlines())) <= 50
    # Each flag has a group of its own; see isojax/commands/help.py.
    assert "\nother:" not in process.stdout
    assert "\x1b" not in process.stdout


def test_help_shows_a_flag_that_no_group_names_too():
    values = flags.FlagValues()
    flags.DEFINE_integer("seeds", 3, "How many, 50% of them", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder.", flag_values=values)
    for flag in ("seeds", "workdir"):
        values.register_key_flag_for_module("script", values[flag])
    text = format_help(
        {"run": {"workdir": "=DIR"}},
        values=values,
        module="script",
        program="python script.py",
        doc="Does it.\n\n    isojax script [--seeds=N]\n\nMore.\n",
        notes={"presets": "one, two"},
    )
    run, other, presets = (
        text.index(part)
        for part in ("run:\n  --workdir=DIR", "other:\n  --seeds=VALUE", "presets:\n")
    )
    assert run < other < presets
    assert "How many, 50% of them (default: 3)" in text
    assert "Does it. More." in text
    assert text.startswith("usage: python script.py [--seeds=N]\n")


def test_output_that_nobody_reads_ends_a_script_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "train.py", "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (141, "")


def test_the_name_of_the_process_has_no_space():
    """Slurm's proctrack/linuxproc sends no signal to a process whose name has one."""
    code = """
import sys
from isojax.commands import command_line
sys.argv = ["isojax train"]
command_line.run(lambda: print(open("/proc/self/comm").read()))
"""
    command = [sys.executable, "-c", code]
    name = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert name.stdout.strip() == "isojax-train"


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--target=tpu:v5e:7x7"], "--target=tpu:v5e:7x7"),
        (["--target=gpu:h100:8", "--steps=3"], "--steps"),
        (["--target=gpu:h100:8", "--json=none/x.json"], "--json=none/x.json"),
        (["--json=x.json"], "--target"),
    ],
)
def test_profile_refuses_flags_before_it_compiles(run, arguments, flag):
    outcome = run("profile", *arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert flag in outcome.stderr
    assert outcome.stderr.count("\n") == 1


PATH_FLAGS = {
    "train": ("workdir", "data_dir", "fork_from"),
    "evaluate": ("workdir", "data_dir"),
    "export": ("workdir", "output"),
    "report": ("workdir", "output"),
    "profile": ("trace", "json"),
    "sweep": ("workdir", "data_dir"),
}


@pytest.mark.parametrize(
    ("command", "flag"), [(name, f) for name, fs in PATH_FLAGS.items() for f in fs]
)
def test_an_empty_path_is_refused(run, command, flag):
    """As `--workdir=$UNSET` gives it."""
    outcome = run(command, f"--{flag}=")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: flag --{flag}=: ")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["evaluate", "export", "report"])
def test_a_tilde_is_the_home_directory(run, command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = run(command, "--workdir=~/none")
    assert outcome.returncode == 2
    assert f"{tmp_path}/none" in outcome.stderr


def test_a_path_of_a_user_that_does_not_exist_is_refused():
    assert parse_path("runs/~x") == "runs/~x"
    with pytest.raises(UsageError, match="~nobody-here.*; write ./~nobody-here/x"):
        parse_path("~nobody-here/x")


def test_a_config_file_is_found_in_the_home_directory(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = (ROOT / "isojax" / "configs" / "digits.py").read_text()
    (tmp_path / "own.py").write_text(source.replace("epochs = 50", "epochs = 0"))
    outcome = run("train", "--config=~/own.py:byol", f"--workdir={tmp_path}/run")
    assert outcome.stderr.startswith("error: config.epochs=0: ")


def test_only_the_value_of_the_flag_config_is_replaced(run, tmp_path):
    """A folder may have the config's name, and the last of several configs counts."""
    arguments = ["--config=nonsense", "--config", "digits", "--workdir", "digits"]
    outcome = run("train", *arguments, "--config.epochs=0")
    assert outcome.stderr.startswith("error: config.epochs=0: ")


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_an_unavailable_platform_is_named_in_the_error(platform, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    process = call("train.py", f"--workdir={tmp_path}/run")
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: JAX_PLATFORMS={platform} ")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
