"""How a run's config differs from the one it began as."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import isojax
from isojax.errors import UsageError
from isojax.fields import field_values

_CONFIGS = "configs"
# Said elsewhere in a report, or of no consequence for the results.
_LEFT_OUT = ("preset", "forked_from")


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a config's fields by dotted name, sections left out."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in field_values(ConfigDict(config)).items()
        if not name.startswith(_LEFT_OUT)
    }


def defaults_of(config: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The config file and preset that a run began with, and their flat fields.

    It is the file in configs/ whose data set is the run's. None where there is none:
    configs/ comes with the repository, not with the package.
    """
    for name, module in _config_files():
        try:
            fields = module.get_config(config["preset"]).to_dict()
        except (UsageError, KeyError, AttributeError, TypeError):
            continue  # another data set's, without this preset
        if fields["data"]["name"] == config["data"]["name"]:
            return f"{_CONFIGS}/{name}.py:{config['preset']}", flat(fields)
    return None


def changed_fields(
    there: dict[str, Any], here: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The fields of two flat configs that differ, with both values."""
    return {
        name: (there.get(name), here.get(name))
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    }


def _config_files() -> Iterator[tuple[str, Any]]:
    folder = Path(isojax.__file__).resolve().parents[1] / _CONFIGS
    try:
        found = importlib.import_module(_CONFIGS).__path__
    except (ImportError, AttributeError):
        return
    # Some other project's folder of that name is none of ours.
    if {Path(path).resolve() for path in found} != {folder}:
        return
    for found in pkgutil.iter_modules([str(folder)]):
        if found.name != "base":
            yield found.name, importlib.import_module(f"{_CONFIGS}.{found.name}")
