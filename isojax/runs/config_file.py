"""Reads and writes the `config.json` of a run's folder. Imports no JAX.

The file has a format version. Files of older versions are upgraded when they are read,
so that the rest of isojax sees current fields only. A new field needs no new version:
where a file lacks it, it has the default of `isojax/configs/base.py`. A new version
and an entry in `_UPGRADES` are needed if a field is renamed or removed, or if its
default differs from what older runs used.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from isojax.configs import base
from isojax.errors import UsageError
from isojax.fields import field_values, no_effect_reason
from isojax.files import write_atomically
from isojax.invocation import command
from isojax.runs import layout

FORMAT_VERSION = 1
_VERSION = "format_version"  # files of version 0 have no such field
# Field with the run and step that a forked run started from.
FORKED_FROM = "forked_from"
# A run may resume with other values of these fields, because they do not change its
# results.
_MAY_DIFFER = (
    "checkpoint_every_epochs",
    "evaluate_every_epochs",
    "checkpoint.",
    "logging.",
    "on_collapse",
    "data.feed",
    "data.folder",  # which may have moved; a checksum of its images is compared
)
# None until training computes them from its images.
_COMPUTED = ("data.mean", "data.std")
# Fields that every version wrote. A file without one of them is damaged.
_REQUIRED = {
    "": ("preset", "seed", "epochs", "steps", "batch_size"),
    "method": (
        *("metric", "form", "predictor", "target"),
        *("alpha", "epsilon", "normalize"),
    ),
    "model": (
        *("width", "kernel_size", "stride", "max_pool"),
        *("hidden_dim", "projection_dim", "predictor_hidden_dim"),
    ),
    "optimizer": ("name", "learning_rate"),
    "data": (
        *("name", "resolution", "mean", "std"),
        *("pretrain_split", "train_split", "evaluation_split"),
    ),
    "augment": ("kind",),
}


def _upgrade_0(fields: dict[str, Any]) -> None:
    """Upgrades version 0, whose predictor "directcopy" ignored its three fields."""
    method = fields.get("method")
    if isinstance(method, dict) and method.get("predictor") == "directcopy":
        method.update(predictor="directpred", alpha=1.0, epsilon=0.25, normalize=True)


# For each older version, the function that changes its fields, in place, into those of
# the next version.
_UPGRADES = {0: _upgrade_0}


def read_fields(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads the fields of a run's config.

    Args:
      workdir: the run's folder.

    Returns:
      The current fields, in sections as JSON gives them, and under `FORKED_FROM` what
      a forked run started from.

    Raises:
      UsageError: if there is no such file, a newer isojax wrote it, it is damaged, or a
        required field is missing.
    """
    path = Path(workdir) / layout.CONFIG_FILE
    if not path.is_file():
        raise UsageError(
            f"there is no run in {workdir} (no {layout.CONFIG_FILE}); train one with "
            f"{command('train', f'--workdir={workdir}')}"
        )
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(fields, dict) or not fields:
        raise _unreadable(path, "it contains no config")
    if not isinstance(fields.get(FORKED_FROM, {}), dict):
        raise _unreadable(path, f"{FORKED_FROM} is not an object")
    _upgrade(path, fields)
    _check_required(path, fields)
    return _with_defaults(fields)


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """Loads the config of a run.

    Args:
      workdir: the run's folder.

    Returns:
      The config, with current fields whichever version wrote it.

    Raises:
      UsageError: as `read_fields`.
    """
    fields = read_fields(workdir)
    fields.pop(FORKED_FROM, None)
    return ConfigDict(fields)


def load_forked_from(workdir: str | os.PathLike) -> dict[str, Any]:
    """Loads what a run was forked from.

    Args:
      workdir: the run's folder.

    Returns:
      `workdir` and `step` of the other run; empty if there is no run in the folder or
      it is not a fork.

    Raises:
      UsageError: if the config cannot be read.
    """
    if not (Path(workdir) / layout.CONFIG_FILE).exists():
        return {}
    return read_fields(workdir).get(FORKED_FROM, {})


def save_config(
    workdir: Path, config: ConfigDict, forked_from: Mapping[str, Any] | None = None
) -> None:
    """Writes `config.json` atomically, in the current format.

    Args:
      workdir: the run's folder.
      config: the run's configuration.
      forked_from: `workdir` and `step` of the run that this one was forked from; by
        default what an existing `config.json` records.

    Raises:
      OSError: if the file cannot be written.
      UsageError: if an existing file cannot be read.
    """
    fields = config.to_dict() | {_VERSION: FORMAT_VERSION}
    if forked_from := forked_from or load_forked_from(workdir):
        fields[FORKED_FROM] = dict(forked_from)
    write_atomically(workdir / layout.CONFIG_FILE, _as_json(fields).encode())


def flat_fields(config: ConfigDict) -> dict[str, Any]:
    """Returns the values of a config's fields by dotted name, as JSON returns them."""
    return field_values(ConfigDict(json.loads(_as_json(config.to_dict()))))


def changed_fields(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns the fields of two flat configs that differ, with both values."""
    return {
        name: (before.get(name), now.get(name))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }


def differing_fields(
    stored: ConfigDict, current: ConfigDict
) -> dict[str, tuple[Any, Any]]:
    """Finds the fields that keep a stored run from resuming with the current config.

    These are the fields that change what is computed. A field that has no effect in the
    current config may differ, since older versions recorded such values, and so may a
    normalisation of None, which training computes from its images.

    Args:
      stored: the config of the run's folder.
      current: the config to resume with.

    Returns:
      The stored and the current value of each such field, by dotted name.
    """
    stored, current = (
        ConfigDict(_with_defaults(config.to_dict())) for config in (stored, current)
    )
    changed = changed_fields(flat_fields(stored), flat_fields(current))
    return {
        name: (before, now)
        for name, (before, now) in changed.items()
        if no_effect_reason(current, name) is None
        and not name.startswith(_MAY_DIFFER)
        and not (name in _COMPUTED and now is None)
    }


def describe_differences(
    differing: Mapping[str, tuple[Any, Any]],
    *,
    names: tuple[str, str] = ("stored", "current"),
) -> str:
    """Formats the result of `differing_fields` for an error message.

    Args:
      differing: the two values of each field.
      names: names of the two configs.
    """
    first, second = names
    return ", ".join(
        f"{field} ({first} {before}, {second} {now})"
        for field, (before, now) in differing.items()
    )


def _upgrade(path: Path, fields: dict[str, Any]) -> None:
    version = fields.pop(_VERSION, 0)
    if not isinstance(version, int) or version < 0:
        raise _unreadable(path, f"{_VERSION} is {version!r}")
    if version > FORMAT_VERSION:
        raise UsageError(
            f"{path} has format version {version}, and this isojax reads versions up "
            f"to {FORMAT_VERSION}; update isojax"
        )
    for older in range(version, FORMAT_VERSION):
        _UPGRADES[older](fields)


def _check_required(path: Path, fields: dict[str, Any]) -> None:
    for section, names in _REQUIRED.items():
        found = fields.get(section) if section else fields
        for name in names:
            if not isinstance(found, dict) or name not in found:
                field = f"{section}.{name}" if section else name
                raise _unreadable(path, f"it lacks the field {field}")


def _with_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the fields of `configs/base.py` that are missing."""
    return _merge(base.get_config().to_dict(), fields)


def _merge(defaults: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **fields}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = _merge(default, merged[name])
    return merged


def _as_json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} cannot be read ({reason}); restore it from a copy")
