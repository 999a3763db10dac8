import json

import pytest
from ml_collections import ConfigDict

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.evaluation import evaluate_run
from isojax.interop.export_files import export_run
from isojax.reporting.closing import next_commands
from isojax.runs import config_file
from isojax.runs.config_file import (
    FORMAT_VERSION,
    load_config,
    load_forked_from,
    read_fields,
    save_config,
)
from isojax.runs.folder import open_run_folder
from isojax.runs.stored_run import read_run
from isojax.training import load_encoder


def write(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text)
    return folder


def fields(preset="isoloss", **method):
    config = digits.get_config(preset).to_dict()
    return json.loads(json.dumps(config | {"method": config["method"] | method}))


FOREIGN = ["[1]", "[]", "{}", "3", "null", '"text"', '{"epochs": ', "", "[" * 100_000]
READERS = {
    "load_config": load_config,
    "load_forked_from": load_forked_from,
    "open_run_folder": lambda folder: open_run_folder(
        folder, digits.get_config()
    ).__enter__(),
    "load_encoder": load_encoder,
    "evaluate_run": evaluate_run,
    "read_run": read_run,
    "next_commands": next_commands,
    "export_run": lambda folder: export_run(folder, file_format="flax"),
}


@pytest.mark.parametrize("content", FOREIGN, ids=lambda text: text[:9])
@pytest.mark.parametrize("reader", READERS)
def test_something_else_than_a_config_is_refused_by_every_reader(
    reader, content, tmp_path
):
    write(tmp_path, content)
    with pytest.raises(UsageError, match=r"config\.json cannot be read \(.*restore"):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("missing", ["seed", "model", "model.width", "data.mean"])
def test_a_config_that_lacks_a_field_names_it(missing, tmp_path):
    content = fields()
    *sections, last = missing.split(".")
    section = content
    for name in sections:
        section = section[name]
    del section[last]
    write(tmp_path, content)
    with pytest.raises(UsageError, match=f"it lacks the field {missing}"):
        read_fields(tmp_path)


def test_a_foreign_origin_is_refused(tmp_path):
    write(tmp_path, fields() | {"forked_from": [1]})
    with pytest.raises(UsageError, match="forked_from is not an object"):
        load_forked_from(tmp_path)


def test_directcopy_of_an_older_version_is_read_as_what_it_computed(tmp_path):
    # Its own numbers were recorded, and not used.
    old = fields("directcopy", predictor="directcopy", alpha=0.5, epsilon=0.0)
    method = load_config(write(tmp_path, old)).method
    assert method.to_dict() == digits.get_config("directcopy").method.to_dict()


def test_an_older_version_had_no_padding_of_its_own(tmp_path):
    content = fields()
    del content["model"]["padding"]
    assert load_config(write(tmp_path, content)).model.padding is None


def test_a_field_that_is_missing_has_its_default_and_does_not_stop_a_run(tmp_path):
    config = digits.get_config()
    content = fields()
    del content["precision"], content["logging"], content["method"]["loss_scale"]
    stored = load_config(write(tmp_path, content))
    assert stored.to_dict() == fields()
    with open_run_folder(tmp_path, config):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["precision"] == "float32"

    write(tmp_path, content)
    config = ConfigDict(config.to_dict())
    config.precision = "bfloat16"
    with pytest.raises(UsageError, match=r"precision \(stored float32, current bflo"):
        open_run_folder(tmp_path, config).__enter__()


def test_the_file_records_its_version_and_a_newer_one_is_refused(tmp_path):
    save_config(tmp_path, digits.get_config())
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["format_version"] == FORMAT_VERSION
    assert "format_version" not in read_fields(tmp_path)
    write(tmp_path, content | {"format_version": FORMAT_VERSION + 1})
    for reader in READERS.values():
        with pytest.raises(UsageError) as refused:
            reader(tmp_path)
        message = str(refused.value)
        assert f"version {FORMAT_VERSION + 1}" in message
        assert f"versions up to {FORMAT_VERSION}" in message


def test_every_older_version_can_be_upgraded():
    assert sorted(config_file._UPGRADES) == list(range(FORMAT_VERSION))


@pytest.mark.parametrize("version", ["1", -1, None])
def test_a_version_that_is_no_number_is_refused(version, tmp_path):
    write(tmp_path, fields() | {"format_version": version})
    with pytest.raises(UsageError, match="format_version"):
        read_fields(tmp_path)
