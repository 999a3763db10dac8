"""A run that an older version wrote opens, resumes, is evaluated and reported.

The run in `old_run` trained on the digits with a network of width 1, and was stopped
after 8 of its 9 steps. Its config has no format version.
"""

import json
import shutil
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.data import load_dataset
from isojax.evaluation import Options, evaluate_run
from isojax.reporting.html_report import write_report
from isojax.runs.config_file import FORMAT_VERSION, load_config
from isojax.runs.folder import open_run_folder
from isojax.runs.stored_run import read_run
from isojax.training import load_encoder, pretrain
from isojax.training.assembly import first_state
from isojax.training.checkpoint import Checkpoints

OLD_RUN = Path(__file__).parent / "old_run"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(OLD_RUN, tmp_path / "run"))


@pytest.fixture
def config():
    config = ConfigDict(digits.get_config().to_dict())
    config.epochs, config.batch_size, config.checkpoint_every_epochs = 3, 1024, 1
    config.model.update(width=1, hidden_dim=8, projection_dim=4)
    config.optimizer.warmup_epochs = 1.0
    return config


def test_an_old_run_opens_and_is_reported(folder):
    assert "format_version" not in json.loads((folder / "config.json").read_text())
    run = read_run(folder)
    assert (run.last["epoch"], run.last["step"], run.checkpoints) == (2, 6, [8])
    _, variables = load_encoder(folder)
    assert set(variables) == {"params", "batch_stats"}
    page = write_report([folder]).read_text()
    assert "31.1%" in page  # the accuracy in its linear_eval.json


def test_an_old_runs_folder_and_checkpoint_are_those_of_the_same_config(folder, config):
    with open_run_folder(folder, config):
        stored = json.loads((folder / "config.json").read_text())
    assert stored["format_version"] == FORMAT_VERSION
    dataset = load_dataset(config.data)
    like = jax.eval_shape(lambda: first_state(config, dataset))
    assert Checkpoints(folder).restore(like).step == 8


@pytest.mark.slow
def test_an_old_run_resumes_and_is_evaluated(folder, config):
    before = read_run(folder).history.rows
    pretrain(config, folder)
    rows = read_run(folder).history.rows
    assert rows[:2] == before
    assert (len(rows), rows[2]["epoch"], rows[2]["step"]) == (3, 3, 9)
    assert load_config(folder).to_dict() == load_config(OLD_RUN).to_dict()
    result = evaluate_run(folder, options=Options(protocols=("knn",)))
    assert result["step"] == 9
    assert 0 < result["knn_accuracy"]["20"] < 1
