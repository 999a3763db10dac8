"""Reads `config.json` of a run's folder, whichever version wrote it. Imports no JAX."""

import json
import os
from pathlib import Path
from typing import Any

from isojax.errors import UsageError
from isojax.invocation import command

CONFIG_FILE = "config.json"
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
    path = Path(workdir) / CONFIG_FILE
    if not path.is_file():
        raise UsageError(
            f"there is no run in {workdir} (no {CONFIG_FILE}); train one with "
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
                path = Path(workdir) / CONFIG_FILE
                raise _unreadable(path, f"it lacks the field {field}")
    return fields


def _upgrade(fields: dict[str, Any]) -> None:
    """Rewrites, in place, what older versions wrote otherwise."""
    method, model = fields.get("method"), fields.get("model")
    if isinstance(method, dict) and method.get("predictor") == "directcopy":
        method.update(_DIRECTCOPY)
    if isinstance(model, dict):
        model.setdefault("padding", None)


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} cannot be read ({reason}); restore it from a copy")
