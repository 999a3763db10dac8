"""How a run's config differs from the one it began as."""

import importlib
from typing import Any

from ml_collections import ConfigDict

from isojax.configs import config_names
from isojax.errors import UsageError
from isojax.fields import field_values

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
    """The packaged config and preset that a run began with, and their flat fields.

    It is the config for the run's data set; None if isojax has none.
    """
    for name in config_names():
        module = importlib.import_module(f"isojax.configs.{name}")
        try:
            fields = module.get_config(config["preset"]).to_dict()
        except (UsageError, KeyError, AttributeError, TypeError):
            continue  # another data set's, without this preset
        if fields["data"]["name"] == config["data"]["name"]:
            return f"{name}:{config['preset']}", flat(fields)
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
