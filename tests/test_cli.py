"""A user's mistake: one clear line on standard error, exit code 2, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from isojax.commands.command_line import parse_path
from isojax.commands.help import format_help
from isojax.errors import UsageError

ROOT = Path(__file__).parent.parent


def call(script, *arguments):
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cofnig=x"], "Did you mean: config"),
        (["--config.epoch=3"], "no config field 'epoch'; the nearest is 'epochs'"),
        (
            ["--config=configs/digits.py", "--config.model.widht=3"],
            "no config field 'model.widht'; the nearest is 'model.width'",
        ),
        (["--config.epochs=ten"], "--config.epochs=ten: invalid literal for int()"),
        (
            ["--config=configs/digits.py:isolos"],
            "no preset 'isolos'; choose one of byol",
        ),
        (["--config=configs/digit.py"], "no config file configs/digit.py"),
        (["epochs=3"], "unexpected argument 'epochs=3'; write it as --name=value"),
        (
            ["--config.method.predictor=mlp"],
            "needs a closed-form one, not 'mlp'; set config.method.predictor",
        ),
        (["--config.batch_size=5000"], "more than the 4000 training images; set it to"),
        (["--config.epochs=0"], "config.epochs=0: set it above 0"),
        (["--config.preset=byol"], "--config=NAME:PRESET"),
        (["--config.data.std=(0.0,)"], "config.data.std=(0.0,): give one value a chan"),
        (["--config.data.std=()"], "config.data.std=(): give one value a channel"),
        (["--config.augment.rotation=inf"], "rotation=inf: set it to a finite number"),
        (["--config.seed=18446744073709551616"], "set it to at least 0, below 2**64"),
        (
            ["--config.optimizer={'learning_rate':0.2}"],
            "config.optimizer is a section; set its fields one by one",
        ),
        (["--config.augment_view2={}"], "config.augment_view2 is a section"),
        (["--config.data.mean[0]=0.5"], "no config field 'data.mean[0]'"),
        (["--config.=3"], "no config field ''"),
        (["--config="], "--config=: the path is empty"),
        (["--config=configs/digits.py", "--config="], "--config=: the path is empty"),
        (
            ["--config=configs/digits.py:byol", "--config.method.alpha=2"],
            "--config.method.alpha=2.0 has no effect here: it acts with",
        ),
        (
            ["--config.data.name=/data/photos"],
            "config.data.name=/data/photos is a path, and image folders are not read",
        ),
        (
            ["--config.batch_size=8", "--config.microbatches=8"],
            "leaves BatchNorm a single image at a time",
        ),
        (
            ["--config.data.validation_fraction=0.999"],
            "no images are left for pretrain; change config.data.validation_fraction",
        ),
        (["--config.data.name=digit"], "no data set 'digit'"),
        (["--config.data.mean=(0.1,0.2,0.3)"], "give one value of mean and std"),
        (["--workdir=train.py"], "--workdir=train.py is a file; name a folder"),
        (["--workdir=/dev/null/run"], "cannot be written (Not a directory)"),
        (["--workdir=configs"], "holds files but no run; name a new folder"),
    ],
)
def test_train_refuses(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments = [*arguments, f"--workdir={workdir}"]
    process = call("train.py", *arguments)
    assert process.returncode == 2, process.stderr
    assert message in process.stderr
    assert process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1
    assert not workdir.exists()


def test_train_refuses_the_folder_of_another_run(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"epochs": 7, "method": {"form": "iso"}}')
    process = call("train.py", f"--workdir={tmp_path}")
    assert process.returncode == 2
    assert "holds a run with another config" in process.stderr
    assert "epochs (there 7, here 50)" in process.stderr
    assert "method.form" not in process.stderr
    assert config.read_text().startswith('{"epochs": 7')


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no run in"),
        ({"config.json": '{"epochs": '}, "cannot be read"),
    ],
)
def test_eval_linear_refuses_a_folder_without_a_run(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    process = call("eval_linear.py", f"--workdir={tmp_path}")
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1


SCRIPTS = {
    "train.py": ["run:", "several processes:", "presets:", "--config.FIELD=VALUE"],
    "eval_linear.py": ["run:", "what is measured:", "--config.data.FIELD=VALUE"],
    "isojax.export": ["file:", "--format=FORMAT"],
    "isojax.report": ["--workdir=DIR", "--output=FILE"],
    "isojax.profile": ["measurement:", "--trace=DIR"],
    "isojax.sweep": ["what is trained:", "--seeds=N"],
    "isojax.launch": ["--processes N"],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_flags_in_groups_as_wide_as_the_terminal(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    where = [script] if script.endswith(".py") else ["-m", script]
    process = call(*where, "--help")
    assert (process.returncode, process.stderr) == (0, "")
    # As it is typed, not where the file lies.
    assert process.stdout.startswith(f"usage: python {' '.join(where)}")
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


PATH_FLAGS = [
    ("train.py", "workdir"),
    ("train.py", "data_dir"),
    ("train.py", "fork_from"),
    ("eval_linear.py", "workdir"),
    ("eval_linear.py", "data_dir"),
    ("isojax.export", "workdir"),
    ("isojax.export", "output"),
    ("isojax.report", "workdir"),
    ("isojax.report", "output"),
    ("isojax.profile", "trace"),
    ("isojax.sweep", "workdir"),
    ("isojax.sweep", "data_dir"),
]


@pytest.mark.parametrize(("script", "flag"), PATH_FLAGS)
def test_an_empty_path_is_refused(script, flag):
    """As `--workdir=$UNSET` gives it."""
    where = [script] if script.endswith(".py") else ["-m", script]
    process = call(*where, f"--{flag}=")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        f"error: flag --{flag}=: the path is empty; name one, or leave the flag out\n"
    )


@pytest.mark.parametrize("script", ["eval_linear.py", "isojax.export", "isojax.report"])
def test_a_tilde_is_the_home_directory(script, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    where = [script] if script.endswith(".py") else ["-m", script]
    process = call(*where, "--workdir=~/none")
    assert process.returncode == 2
    assert f"there is no run in {tmp_path}/none" in process.stderr


def test_a_path_of_a_user_that_does_not_exist_is_refused():
    assert parse_path("runs/~x") == "runs/~x"
    with pytest.raises(
        UsageError, match="no user ~nobody-here; write ./~nobody-here/x"
    ):
        parse_path("~nobody-here/x")


def test_a_config_file_is_found_in_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = (ROOT / "isojax" / "configs" / "digits.py").read_text()
    (tmp_path / "own.py").write_text(source.replace("epochs = 50", "epochs = 0"))
    process = call("train.py", "--config=~/own.py:byol", f"--workdir={tmp_path}/run")
    assert process.stderr == "error: config.epochs=0: set it above 0\n"


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_a_platform_that_is_not_there_is_named(platform, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    process = call("train.py", f"--workdir={tmp_path}/run")
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: JAX_PLATFORMS={platform} cannot be used")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
