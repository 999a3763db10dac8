"""Names and values of config fields. Imports no JAX."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict


def field_names(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Yields the dotted name of every field of a config, sections included."""
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, ConfigDict):
            yield from field_names(value, f"{prefix}{name}.")


def field_values(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The values of a config's fields by dotted name, without sections."""
    values = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            values |= field_values(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values
