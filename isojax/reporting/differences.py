"""Compares a run's config with the packaged config that it is based on."""

import importlib
from typing import Any

from ml_collections import ConfigDict

from isojax.configs import config_names
from isojax.errors import UsageError
from isojax.runs.config_file import flat_fields

# The report shows these elsewhere.
_LEFT_OUT = ("preset", "forked_from")


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the fields that a report compares, by dotted name."""
    return {
        name: value
        for name, value in flat_fields(ConfigDict(config)).items()
        if not name.startswith(_LEFT_OUT)
    }


def defaults_of(config: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Finds the packaged config for a run's data set and preset.

    Args:
      config: the fields of the run's config, in sections.

    Returns:
      The name, such as "digits:byol", and the flat fields; None if there is no such
      config.
    """
    for name in config_names():
        module = importlib.import_module(f"isojax.configs.{name}")
        try:
            fields = module.get_config(config["preset"]).to_dict()
        except (UsageError, KeyError, AttributeError, TypeError):
            continue  # a config without this preset
        if fields["data"]["name"] == config["data"]["name"]:
            return f"{name}:{config['preset']}", flat(fields)
    return None
