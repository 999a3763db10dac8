"""What no run's folder tells: seconds spent, the words of a crash, what is planned.

All in `records/` of the sweep's folder, beside the output of each run.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.sweeps.plan import SweepRun

_FOLDER = "records"
_PLANNED_FILE = "planned.json"


def read_log_entry(directory: Path, run: SweepRun) -> dict[str, Any]:
    """The record of a run: `seconds`, and `crashed` with the last words if it did."""
    path = _path(directory, run)
    return read_json(path) if path.exists() else {}


def write_log_entry(directory: Path, run: SweepRun, record: dict[str, Any]) -> None:
    """Replaces the record of a run."""
    _write_json(_path(directory, run), record)


def remember_planned(directory: Path, runs: Iterable[SweepRun]) -> None:
    """Adds runs to those that the sweep is to have."""
    names = {*planned_names(directory), *(run.name for run in runs)}
    _write_json(directory / _FOLDER / _PLANNED_FILE, sorted(names))


def planned_names(directory: Path) -> list[str]:
    """The names of the runs that the sweep is to have."""
    path = directory / _FOLDER / _PLANNED_FILE
    return read_json(path) if path.exists() else []


def logged_names(directory: Path) -> set[str]:
    """The names of the runs that have a record."""
    paths = (directory / _FOLDER).glob("*.json")
    return {path.stem for path in paths if path.name != _PLANNED_FILE}


def output_path(directory: Path, run: SweepRun) -> Path:
    """Where the output of a run is kept."""
    return _path(directory, run).with_suffix(".txt")


def read_json(path: Path) -> Any:
    """The content of a file.

    Raises:
      UsageError: if it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(
            f"{path} cannot be read ({error}); restore it from a copy, or delete it "
            "and run again"
        ) from error


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _path(directory: Path, run: SweepRun) -> Path:
    return directory / _FOLDER / f"{run.name}.json"
