"""A user's mistake: one clear line on standard error, exit code 2, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

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
        (["--config.data.name=digit"], "no data set 'digit'"),
        (["--config.data.mean=(0.1,0.2,0.3)"], "give one value of mean and std"),
        (["--workdir=train.py"], "--workdir=train.py is a file; name a folder"),
        (["--workdir=/proc/run"], "cannot be written (No such file or directory)"),
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


@pytest.mark.parametrize("script", ["train.py", "eval_linear.py"])
def test_help_names_the_flags_at_once(script):
    process = call(script, "--help")
    assert process.returncode == 0
    assert "--workdir" in process.stdout
