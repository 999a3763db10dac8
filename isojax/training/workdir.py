"""A run's folder: its config, and the refusal to mix two runs in one."""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

from isojax.cli import field_names
from isojax.errors import UsageError
from isojax.files import write_atomically

CONFIG_FILE = "config.json"


def open_workdir(workdir: str | os.PathLike, config: ConfigDict) -> Path:
    """Makes the folder of a new run, or recognises the folder of the same run.

    Args:
      workdir: the folder, made where it is missing.
      config: of the run.

    Returns:
      The folder, with `config.json` in it.

    Raises:
      UsageError: if the folder cannot be written, or holds another run or other files.
    """
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir} is a file; name a folder")
    if (workdir / CONFIG_FILE).exists():
        _check_same_run(workdir, config)
        return workdir
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if any(workdir.iterdir()):
            raise UsageError(
                f"--workdir={workdir} holds files but no run; name a new folder"
            )
        write_atomically(workdir / CONFIG_FILE, _as_json(config).encode())
    except OSError as error:
        raise UsageError(
            f"--workdir={workdir} cannot be written ({error.strerror}); name another "
            "folder"
        ) from error
    return workdir


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config of the run in a folder.

    Raises:
      UsageError: if there is no run in the folder, or its config cannot be read.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.is_file():
        raise UsageError(
            f"there is no run in {workdir} (no {CONFIG_FILE}); train one with "
            f"python train.py --workdir={workdir}"
        )
    try:
        return ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise UsageError(
            f"{path} cannot be read ({error}); restore it from a copy"
        ) from error


def _as_json(config: ConfigDict) -> str:
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def _check_same_run(workdir: Path, config: ConfigDict) -> None:
    there = load_config(workdir)
    here = ConfigDict(json.loads(_as_json(config)))
    differing = [
        f"{name} (there {_field(there, name)}, here {_field(here, name)})"
        for name in sorted({*field_names(there), *field_names(here)})
        if _field(there, name) != _field(here, name)
    ]
    if differing:
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: "
            f"{', '.join(differing)}; name another folder"
        )


def _field(config: ConfigDict, name: str) -> object:
    """The value of a dotted field; None for a section and for a missing field."""
    value = config
    for part in name.split("."):
        if not isinstance(value, ConfigDict) or part not in value:
            return None
        value = value[part]
    return None if isinstance(value, ConfigDict) else value
