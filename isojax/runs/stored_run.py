"""Reads a run's folder, for reports and tables. Imports no JAX."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isojax.errors import UsageError
from isojax.files import DAMAGED_ARCHIVE
from isojax.runs import layout
from isojax.runs.config_file import read_fields
from isojax.runs.evaluation_arrays import EvaluationArrays
from isojax.runs.evaluation_result import EvaluationResult
from isojax.runs.history import History
from isojax.runs.mirror import local_folder
from isojax.runs.saved_steps import saved_steps

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class StoredRun:
    """The content of a run's folder. Values of missing files are empty.

    Attributes:
      folder: path of the folder; for a run in a bucket, that of a temporary copy.
      config: the fields of `config.json`, in sections.
      history: metrics and eigenvalues of the finished epochs, at least one.
      machine: device and package versions, from `machine.json`.
      evaluation: accuracies, from `linear_eval.json`.
      evaluation_arrays: arrays of `evaluation.npz`; None without that file.
      views: arrays `images` and `views`, from `figures/views.npz`.
      not_finite: the step in which the run diverged, from `not_finite.json`.
      checkpoints: steps of the checkpoints, ascending.
    """

    folder: Path
    config: dict[str, Any]
    history: History
    machine: dict[str, Any]
    evaluation: EvaluationResult
    evaluation_arrays: EvaluationArrays | None
    views: Arrays
    not_finite: dict[str, Any]
    checkpoints: list[int]

    @property
    def last(self) -> dict[str, Any]:
        """Metrics of the last finished epoch."""
        return self.history.rows[-1]

    @property
    def spectrum(self) -> np.ndarray:
        """Eigenvalues of every epoch, ascending, shape (epochs, dim)."""
        return np.stack(self.history.eigenvalues)

    @property
    def epochs(self) -> np.ndarray:
        """Numbers of the finished epochs, from 1, shape (epochs,)."""
        return self.history.column("epoch")

    def column(self, name: str) -> np.ndarray | None:
        """Returns a metric by epoch, NaN where missing; None if no epoch has it."""
        values = np.array([_number(row.get(name)) for row in self.history.rows])
        return values if np.isfinite(values).any() else None

    @property
    def total_steps(self) -> int:
        """The number of steps of the finished run."""
        whole = self.config["epochs"] * self.steps_per_epoch
        return min(whole, self.config["steps"] or whole)

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps per epoch."""
        return self.history.steps_per_epoch


def read_run(workdir: str | os.PathLike) -> StoredRun:
    """Reads the folder of a run.

    Args:
      workdir: path or URL of the run's folder.

    Returns:
      The content of the folder.

    Raises:
      UsageError: if there is no run, no finished epoch, or a file is damaged.
    """
    with local_folder(workdir) as folder:
        return _read_folder(folder)


def _read_folder(folder: Path) -> StoredRun:
    config = read_fields(folder)
    history = History(folder, writes=False)
    if not history.rows:
        raise UsageError(
            f"the run in {folder} has no finished epoch yet; train it further and try "
            "again"
        )
    return StoredRun(
        folder=folder,
        config=config,
        history=history,
        machine=_read_json(folder / layout.MACHINE_FILE),
        evaluation=read_result(folder),
        evaluation_arrays=_read_evaluation_arrays(folder),
        views=read_arrays(folder / layout.FIGURES_FOLDER / layout.VIEWS_ARRAYS),
        not_finite=_read_json(folder / layout.NOT_FINITE_FILE),
        checkpoints=saved_steps(folder),
    )


def read_result(folder: Path) -> EvaluationResult:
    """Reads the result of a run's evaluation on its own data.

    Args:
      folder: the run's folder.

    Returns:
      The result, without accuracies if the run was not evaluated.

    Raises:
      UsageError: if the file is damaged.
    """
    path = folder / layout.RESULT_FILE
    try:
        return EvaluationResult.from_json(_read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def read_arrays(path: Path) -> Arrays:
    """Reads the arrays of a file.

    Args:
      path: an archive of NumPy arrays.

    Returns:
      The arrays by name; none if there is no such file.

    Raises:
      UsageError: if the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except DAMAGED_ARCHIVE as error:
        raise _damaged(path, error) from error


def _read_evaluation_arrays(folder: Path) -> EvaluationArrays | None:
    path = folder / layout.EVALUATION_ARRAYS_FILE
    arrays = read_arrays(path)
    if not arrays:
        return None
    try:
        return EvaluationArrays._make(arrays[name] for name in EvaluationArrays._fields)
    except KeyError as error:
        raise _damaged(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, ValueError("no JSON object"))
    return content


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"{path} cannot be read ({error}); restore it from a copy, or move it away to "
        "continue without it"
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
