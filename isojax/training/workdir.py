"""A run's folder: its config, and the refusal to mix two runs in one."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from isojax import parallel
from isojax.config_file import (
    CONFIG_FILE,
    FORKED_FROM,
    read_complete_fields,
    read_fields,
)
from isojax.errors import UsageError
from isojax.fields import field_values, why_without_effect
from isojax.files import write_atomically
from isojax.training.checkpoint import FOLDER as CHECKPOINTS
from isojax.training.lock import LOCK_FILE, run_lock
from isojax.training.step_folder import first_line

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


@contextmanager
def open_workdir(workdir: str | os.PathLike, config: ConfigDict) -> Iterator[Path]:
    """Makes the folder of a new run, or recognises the folder of the same run.

    The folder is this run's alone as long as the context lasts. Where several processes
    train together the first does all this.

    Args:
      workdir: the folder, made where it is missing.
      config: of the run.

    Yields:
      The folder, with `config.json` in it.

    Raises:
      UsageError: if the folder cannot be written, is in use, or holds another run or
        other files.
    """
    workdir = Path(workdir)
    with ExitStack() as held:
        parallel.in_first_process(lambda: _claim(workdir, config, held))
        yield workdir


def _claim(workdir: Path, config: ConfigDict, held: ExitStack) -> None:
    if ":/" in str(workdir):
        raise UsageError(
            f"--workdir={workdir} is no folder of this machine; name one, such as "
            "where the bucket is mounted"
        )
    try:
        if workdir.exists() and not workdir.is_dir():
            raise UsageError(f"--workdir={workdir} is a file; name a folder")
        workdir.mkdir(parents=True, exist_ok=True)
        _check_contents(workdir, config)
        held.enter_context(run_lock(workdir))
        _check_contents(workdir, config)  # now nobody else changes them
        save_config(workdir, config)
    except OSError as error:
        raise cannot_be_written(workdir, error) from error


def _check_contents(workdir: Path, config: ConfigDict) -> None:
    if (workdir / CONFIG_FILE).exists():
        _check_same_run(workdir, config)
        return
    # A run that was killed in its first moment leaves these.
    passing = (LOCK_FILE, f".{CONFIG_FILE}")
    if any(not path.name.startswith(passing) for path in workdir.iterdir()):
        raise UsageError(
            f"--workdir={workdir} holds files but no run; name a new folder"
        )


def cannot_be_written(workdir: Path, error: Exception) -> UsageError:
    """The error of a directory in which a run's files cannot be written."""
    return UsageError(
        f"--workdir={workdir} cannot be written ({first_line(error)}); choose another "
        "directory"
    )


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
    write_atomically(workdir / CONFIG_FILE, _as_json(fields).encode())


def load_forked_from(workdir: str | os.PathLike) -> dict[str, Any]:
    """What a run was forked from: `workdir` and `step`, or nothing."""
    if not (Path(workdir) / CONFIG_FILE).exists():
        return {}
    return read_fields(workdir).get(FORKED_FROM, {})


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config of the run in a folder.

    Raises:
      UsageError: if there is no run in the folder, or its config cannot be read or is
        incomplete.
    """
    return _without_origin(read_complete_fields(workdir))


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


def _check_same_run(workdir: Path, config: ConfigDict) -> None:
    differing = differing_fields(_without_origin(read_fields(workdir)), config)
    if differing:
        has_checkpoint = any((workdir / CHECKPOINTS).glob("*"))
        remedy = (
            f"and to go on from this run's newest checkpoint add --fork_from={workdir}"
            if has_checkpoint
            else "or delete this one, which has no checkpoint yet"
        )
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: "
            f"{', '.join(differing)}; name another folder, {remedy}"
        )
