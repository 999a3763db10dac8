"""Reads `config.json` of a run's folder, whichever version wrote it. Imports no JAX."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.fields import field_values, why_without_effect
from isojax.files import write_atomically
from isojax.invocation import command
from isojax.runs import layout

# Where a fork's file records the run that it was forked from.
FORKED_FROM = "forked_from"
# What DirectCopy computed with, whatever its config said, while it was a predictor of
# its own beside DirectPred.
_DIRECTCOPY = {
    "predictor": "directpred",
    "alpha": 1.0,
    "epsilon": 0.25,
    "normalize": True,
}
# These change nothing that is computed, so that a run may go on with others.
_MAY_DIFFER = (
    "checkpoint_every_epochs",
    "checkpoint.",
    "logging.",
    "on_collapse",
    "data.feed",
)
# None until training computes them from its images.
_COMPUTED = ("data.mean", "data.std")
# Read from a run by evaluation, export, report or sweep; every version wrote them.
_REQUIRED = {
    "": ("preset", "seed", "epochs", "steps", "batch_size"),
    "method": (
        "metric",
        "form",
        "predictor",
        "target",
        "alpha",
        "epsilon",
        "normalize",
    ),
    "model": ("width", "kernel_size", "stride", "max_pool")
    + ("hidden_dim", "projection_dim", "predictor_hidden_dim"),
    "optimizer": ("name", "learning_rate"),
    "data": ("name", "resolution", "mean", "std")
    + ("pretrain_split", "train_split", "evaluation_split"),
    "augment": ("kind",),
}


def read_fields(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads the fields of a run's config, in sections.

    Args:
      workdir: the run's folder.

    Returns:
      The fields, an older file's in today's terms, and what the run was forked from
      under `FORKED_FROM`, if it was. Some fields may be missing.

    Raises:
      UsageError: if there is no such file, or it holds something else.
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
        raise _unreadable(path, "it holds no config")
    if not isinstance(fields.get(FORKED_FROM, {}), dict):
        raise _unreadable(path, f"{FORKED_FROM} is not an object")
    _upgrade(fields)
    return fields


def read_complete_fields(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads the fields of a run's config, all that evaluation and report need.

    As `read_fields`, which it calls.

    Raises:
      UsageError: if there is no such file, it holds something else, or a field is
        missing.
    """
    fields = read_fields(workdir)
    for section, names in _REQUIRED.items():
        found = fields.get(section) if section else fields
        for name in names:
            if not isinstance(found, dict) or name not in found:
                field = f"{section}.{name}" if section else name
                path = Path(workdir) / layout.CONFIG_FILE
                raise _unreadable(path, f"it lacks the field {field}")
    return fields


def save_config(
    workdir: Path, config: ConfigDict, forked_from: dict[str, Any] | None = None
) -> None:
    """Writes `config.json`, with what the run was forked from, if it was.

    Args:
      workdir: the run's folder.
      config: of the run.
      forked_from: by default what the folder's `config.json` says already.
    """
    forked_from = forked_from or load_forked_from(workdir)
    fields = config.to_dict() | ({FORKED_FROM: forked_from} if forked_from else {})
    write_atomically(workdir / layout.CONFIG_FILE, _as_json(fields).encode())


def load_forked_from(workdir: str | os.PathLike) -> dict[str, Any]:
    """What a run was forked from: `workdir` and `step`, or nothing."""
    if not (Path(workdir) / layout.CONFIG_FILE).exists():
        return {}
    return read_fields(workdir).get(FORKED_FROM, {})


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config of the run in a folder.

    Raises:
      UsageError: if there is no run in the folder, or its config cannot be read or is
        incomplete.
    """
    return _without_origin(read_complete_fields(workdir))


def load_stored(workdir: str | os.PathLike) -> ConfigDict:
    """The config of the run in a folder, in which older runs lack fields.

    Raises:
      UsageError: if there is no run in the folder, or its config cannot be read.
    """
    return _without_origin(read_fields(workdir))


def _without_origin(fields: dict[str, Any]) -> ConfigDict:
    fields.pop(FORKED_FROM, None)
    return ConfigDict(fields)


def _as_json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def flat_fields(config: ConfigDict) -> dict[str, Any]:
    """The values of a config's fields by dotted name, as JSON gives them back."""
    return field_values(ConfigDict(json.loads(_as_json(config.to_dict()))))


def differing_fields(there: ConfigDict, here: ConfigDict) -> list[str]:
    """The fields of two configs that differ, each with both values.

    Only those that change what is computed: no field that has no effect in the current
    config, which older versions recorded. A normalisation of None, to be computed from
    the images, agrees with every other.

    Args:
      there: the stored config; fields may be missing.
      here: the current config.
    """
    acting = {name for name in flat_fields(here) if not why_without_effect(here, name)}
    there, here = flat_fields(there), flat_fields(here)
    return [
        f"{name} (there {there.get(name)}, here {here.get(name)})"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
        and (name in acting or name not in here)
        and not name.startswith(_MAY_DIFFER)
        and not (name in _COMPUTED and here.get(name) is None)
    ]


def _upgrade(fields: dict[str, Any]) -> None:
    """Rewrites, in place, what older versions wrote otherwise."""
    method, model = fields.get("method"), fields.get("model")
    if isinstance(method, dict) and method.get("predictor") == "directcopy":
        method.update(_DIRECTCOPY)
    if isinstance(model, dict):
        model.setdefault("padding", None)


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} cannot be read ({reason}); restore it from a copy")
