import json
import os

import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.runs.config_file import differing_fields, load_config
from isojax.runs.folder import open_run_folder
from isojax.runs.layout import CONFIG_FILE
from isojax.training.config import check_config


@pytest.fixture
def config():
    return ConfigDict(digits.get_config().to_dict())


def open_once(workdir, config):
    with open_run_folder(workdir, config) as opened:
        return opened


def test_the_config_is_recorded_and_read_again(tmp_path, config):
    opened = open_once(tmp_path / "a" / "run", config)
    assert load_config(opened).to_dict() == json.loads(json.dumps(config.to_dict()))
    assert open_once(opened, config) == opened


def test_a_folder_in_use_is_refused(tmp_path, config):
    with open_run_folder(tmp_path, config):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
            open_once(tmp_path, config)
    open_once(tmp_path, config)


def test_another_config_is_refused_with_its_fields_and_the_remedy(tmp_path, config):
    open_once(tmp_path, config)
    config.epochs, config.method.alpha = 60, 1.0
    with pytest.raises(UsageError, match="delete this one"):
        open_once(tmp_path, config)
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "checkpoints" / "5" / "checksums.json").touch()
    with pytest.raises(UsageError, match=f"add --fork_from={tmp_path}") as refused:
        open_once(tmp_path, config)
    assert "epochs (stored 50, current 60), method.alpha (stored" in str(refused.value)
    assert load_config(tmp_path).epochs == 50


def test_how_often_checkpoints_are_kept_may_change(tmp_path, config):
    open_once(tmp_path, config)
    config.checkpoint.keep_last = 5
    config.checkpoint_every_epochs = 1
    open_once(tmp_path, config)
    assert load_config(tmp_path).checkpoint.keep_last == 5


def test_only_the_logging_section_may_change(tmp_path, config):
    open_once(tmp_path, config)
    config.logging.update(wandb="offline", tensorboard="off", tracked_modes=False)
    open_once(tmp_path, config)
    assert load_config(tmp_path).logging.wandb == "offline"
    config.method.alpha = 1.0
    with pytest.raises(UsageError, match=r"another config: method\.alpha \(stored 0.5"):
        open_once(tmp_path, config)


@pytest.mark.parametrize("wandb", ["off", "offline"])
def test_a_run_without_the_section_logging_resumes(tmp_path, config, wandb):
    old = ConfigDict(config.to_dict())
    del old["logging"]
    open_once(tmp_path, old)
    check_config(load_config(tmp_path))
    config.logging.wandb = wandb
    open_once(tmp_path, config)
    assert load_config(tmp_path).logging.wandb == wandb
    open_once(tmp_path, old)


def test_a_run_killed_while_it_creates_its_folder_can_start_again(tmp_path, config):
    (tmp_path / "run.lock").touch()
    (tmp_path / f".{CONFIG_FILE}.x1").write_text("{")
    open_once(tmp_path, config)


def test_other_files_are_refused_and_nothing_written(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="contains files"):
        open_once(tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("is_run", [True, False])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, config, is_run):
    folder = tmp_path / "run"
    folder.mkdir()
    if is_run:
        open_once(folder, config)
        (folder / "run.lock").unlink()
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # whom no mode stops
        for parent in (tmp_path, *tmp_path.parents):
            if parent.name.startswith(("pytest", "popen", "test")):
                parent.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            open_once(folder, config)
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def test_a_run_resumes_whose_normalisation_is_computed_again(tmp_path, config):
    config.data.mean, config.data.std = (0.3,), (0.2,)
    open_once(tmp_path, config)
    config.data.mean, config.data.std = None, None
    assert differing_fields(load_config(tmp_path), config) == {}
    config.data.std = (0.1,)
    assert differing_fields(load_config(tmp_path), config) == {
        "data.std": ([0.2], [0.1])
    }


def test_a_field_without_effect_that_was_recorded_does_not_stop_a_run(tmp_path):
    config = ConfigDict(digits.get_config("byol").to_dict())
    config.method.alpha = 2.0
    open_once(tmp_path, config)
    open_once(tmp_path, digits.get_config("byol"))


def test_a_run_recorded_with_directcopy_resumes(tmp_path):
    recorded = ConfigDict(digits.get_config("directcopy").to_dict())
    recorded.method.update(predictor="directcopy", alpha=0.5, epsilon=0.0)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(recorded.to_dict()))
    open_once(tmp_path, digits.get_config("directcopy"))


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [("/photos", "Restore the files in /photos"), ("/pets", "Pass .* from /photos")],
)
def test_a_changed_folder_of_images_is_refused(tmp_path, folder, remedy):
    config = digits.get_config()
    with config.data.unlocked():
        config.data.update(folder="/photos", images_checksum="1", mean=(0.5,))
    with open_run_folder(tmp_path, config):
        pass
    config.data.update(folder=folder, images_checksum="2", mean=(0.6,))
    message = f"run on other images: data.images_checksum .*stored 1.* {remedy}"
    with pytest.raises(UsageError, match=message):
        open_run_folder(tmp_path, config).__enter__()
