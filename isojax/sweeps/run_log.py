"""The log of a sweep's runs: their time, their errors, and which runs are planned.

The log is in `records/` of the sweep's folder, together with the output of each run.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.sweeps.plan import SweepRun

RECORDS_FOLDER = "records"
_PLANNED_FILE = "planned.json"


def read_log_entry(directory: Path, run: SweepRun) -> dict[str, Any]:
    """Reads a run's entry: `seconds`, and its error as `crashed` if it crashed."""
    path = _path(directory, run)
    return read_json(path) if path.exists() else {}


def write_log_entry(directory: Path, run: SweepRun, entry: dict[str, Any]) -> None:
    """Replaces the entry of a run."""
    _write_json(_path(directory, run), entry)


def add_planned_runs(directory: Path, runs: Iterable[SweepRun]) -> None:
    """Adds runs to the stored list of planned runs."""
    names = {*planned_names(directory), *(run.name for run in runs)}
    _write_json(directory / RECORDS_FOLDER / _PLANNED_FILE, sorted(names))


def planned_names(directory: Path) -> list[str]:
    """Returns the names of the planned runs."""
    path = directory / RECORDS_FOLDER / _PLANNED_FILE
    return read_json(path) if path.exists() else []


def logged_names(directory: Path) -> set[str]:
    """Returns the names of the runs that have an entry."""
    paths = (directory / RECORDS_FOLDER).glob("*.json")
    return {path.stem for path in paths if path.name != _PLANNED_FILE}


def output_path(directory: Path, run: SweepRun) -> Path:
    """Returns the path of the file that holds the output of a run."""
    return _path(directory, run).with_suffix(".txt")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      UsageError: if the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(
            f"{path} cannot be read ({error}); restore it from a backup, or delete it "
            "and run the command again"
        ) from error


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _path(directory: Path, run: SweepRun) -> Path:
    return directory / RECORDS_FOLDER / f"{run.name}.json"
