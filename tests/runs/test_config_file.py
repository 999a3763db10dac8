import json

import pytest

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.evaluation import evaluate_run
from isojax.interop.export_files import export_run
from isojax.reporting.closing import next_commands
from isojax.runs.config_file import (
    load_config,
    load_forked_from,
    read_complete_fields,
    read_fields,
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
        read_complete_fields(tmp_path)
    assert read_fields(tmp_path)["epochs"] == 50


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
