"""Metrics and spectrum of each epoch: `metrics.jsonl` and `spectrum.npz`."""

import io
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from isojax.errors import UsageError
from isojax.files import DAMAGED_ARCHIVE, write_atomically
from isojax.output import run_optional
from isojax.runs import layout

# Metrics of an epoch by name; `step` and `epoch` are whole numbers.
Row = dict[str, Any]
_FLOOR = 1e-9  # fraction of the largest eigenvalue
FILES = (layout.METRICS_FILE, layout.SPECTRUM_FILE)


class History:
    """Metrics and eigenvalues of all finished epochs, stored in the run's folder.

    Attributes:
      rows: the metrics of each epoch by name, as in `metrics.jsonl`.
      eigenvalues: the eigenvalues of each epoch, ascending, shape (dim,).
      tracked: the same eigenvalues of each epoch, ordered so that a mode has the same
        index in every epoch; NaN in epochs without mode tracking.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        epochs: int | None = None,
        correlation: np.ndarray | None = None,
        writes: bool = True,
    ):
        """Reads the files of the folder.

        Args:
          workdir: the run's folder.
          epochs: number of epochs finished at the checkpoint that the run resumes
            from. Later ones are removed from the files. By default all are kept.
          correlation: that checkpoint's correlation, shape (dim, dim). Its eigenvectors
            are those of the last epoch if the checkpoint was saved at its end; see
            `keep_modes` for other checkpoints.
          writes: whether this process writes the files.

        Raises:
          UsageError: if a file is damaged.
        """
        self._writes = writes
        self._metrics, self._spectrum = (Path(workdir) / name for name in FILES)
        self._metrics_whole = True
        self.rows: list[Row] = []
        self.eigenvalues: list[np.ndarray] = []
        self.tracked: list[np.ndarray] = []
        self._modes: np.ndarray | None = None  # eigenvectors of the last epoch
        self._kept_modes: dict[int, np.ndarray] = {}  # by epoch
        try:
            self._read(epochs, correlation)
        except (KeyError, TypeError, *DAMAGED_ARCHIVE) as error:
            raise UsageError(
                f"{' or '.join(FILES)} in {workdir} is damaged ({error}). Restore "
                "them from a copy, or move both to another directory to continue "
                "without them"
            ) from error
        if epochs is not None and writes:
            self._cut_files()

    def _read(self, epochs: int | None, correlation: np.ndarray | None) -> None:
        lines = []
        if self._metrics.exists():
            lines = self._metrics.read_text().splitlines()
        saved = self._saved_arrays()
        recorded = len(saved.get("epoch", ()))
        rows = [json.loads(line) for line in lines[:recorded]]
        # A line is written before its spectrum, so there may be one more line.
        is_seen = epochs is not None and any(
            _epoch_of(line) <= epochs for line in lines[recorded:]
        )
        if len(rows) < recorded or is_seen:
            raise ValueError("they do not contain the same epochs")
        count = sum(epochs is None or row["epoch"] <= epochs for row in rows)
        if not count:
            return
        self.rows = rows[:count]
        self.eigenvalues = list(saved["eigenvalues"][:count])
        kept = (saved.get(name, ()) for name in ("kept_epochs", "kept_modes"))
        self._kept_modes = {
            int(epoch): modes
            for epoch, modes in zip(*kept, strict=True)
            if epochs is None or epoch <= epochs
        }
        untracked = np.full_like(saved["eigenvalues"], np.nan)
        self.tracked = list(saved.get("tracked", untracked)[:count])
        if np.isnan(self.tracked[-1]).any():
            return
        if count == recorded:
            self._modes = saved["modes"]
        elif self.rows[-1]["epoch"] in self._kept_modes:
            self._modes = self._kept_modes[self.rows[-1]["epoch"]]
        elif correlation is not None:
            _, eigenvectors = np.linalg.eigh(correlation)
            from isojax.runs.mode_tracking import order_of_values  # imports JAX

            self._modes = _in_order(eigenvectors, order_of_values(self.tracked[-1]))

    def _saved_arrays(self) -> dict[str, np.ndarray]:
        if not self._spectrum.exists():
            return {}
        with np.load(self._spectrum) as spectrum:
            return dict(spectrum)

    def _cut_files(self) -> None:
        """Writes the remaining epochs; the spectrum first, since it may lack one."""
        if self.rows:
            self._write_spectrum()
        else:
            self._spectrum.unlink(missing_ok=True)
        self._rewrite_metrics()

    def append(
        self,
        row: Row,
        eigenvalues: np.ndarray,
        eigenvectors: np.ndarray | None = None,
    ) -> None:
        """Adds an epoch: a line to `metrics.jsonl`, a row to `spectrum.npz`.

        If the files cannot be written, one line is logged, and the next epoch writes
        them again.

        Args:
          row: metrics by name.
          eigenvalues: eigenvalues of the correlation, ascending, shape (dim,).
          eigenvectors: eigenvectors in columns, shape (dim, dim), to track the modes;
            without them the epoch has no tracked modes.
        """
        self.rows.append(row)
        self.eigenvalues.append(eigenvalues)
        if not self._writes:
            return
        self.tracked.append(self._follow(eigenvalues, eigenvectors))
        if not run_optional(
            lambda: self._write(row),
            failure="the metrics of this epoch were not saved; the next epoch writes "
            "them again",
        ):
            self._metrics_whole = False

    def keep_modes(self, epochs: Collection[int]) -> None:
        """Stores the last epoch's eigenvectors for a checkpoint within the next epoch.

        A run that resumes from that checkpoint tracks the modes from them. Must be
        called before the checkpoint is saved. If the file cannot be written, one line
        is logged.

        Args:
          epochs: numbers of the epochs whose eigenvectors may still be needed. Those of
            other epochs are removed.
        """
        if self._modes is None or not self._writes:
            return
        self._kept_modes[self.rows[-1]["epoch"]] = self._modes
        self._kept_modes = {
            epoch: modes for epoch, modes in self._kept_modes.items() if epoch in epochs
        }
        run_optional(
            self._write_spectrum,
            failure="the eigenvectors were not saved; the order of the modes may "
            "change after resuming",
        )

    def _follow(
        self, eigenvalues: np.ndarray, eigenvectors: np.ndarray | None
    ) -> np.ndarray:
        """Returns an epoch's eigenvalues in the order of the modes."""
        if eigenvectors is None:
            self._modes = None
            return np.full_like(eigenvalues, np.nan)
        order = np.arange(len(eigenvalues))
        if self._modes is not None:
            from isojax.runs.mode_tracking import match_modes  # imports JAX

            order = match_modes(
                self._modes,
                eigenvectors,
                previous_values=floor_eigenvalues(self.tracked[-1]),
                values=floor_eigenvalues(eigenvalues),
            )
        self._modes = _in_order(eigenvectors, order)
        return eigenvalues[order]

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps of the first epoch; there must be at least one."""
        first = self.rows[0]
        return max(1, first["step"] // first["epoch"])

    @property
    def is_tracked(self) -> bool:
        """Whether the modes were tracked in any epoch."""
        return not all(np.isnan(values).any() for values in self.tracked)

    def _write(self, row: Row) -> None:
        if self._metrics_whole:
            with self._metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        else:
            self._rewrite_metrics()
        self._write_spectrum()

    def _write_spectrum(self) -> None:
        arrays = {
            "epoch": self.column("epoch"),
            "eigenvalues": np.stack(self.eigenvalues),
        }
        if self.is_tracked:
            arrays["tracked"] = np.stack(self.tracked)
        if self._modes is not None:
            arrays["modes"] = self._modes
        if self._kept_modes:
            arrays["kept_epochs"] = np.array(list(self._kept_modes))
            arrays["kept_modes"] = np.stack(list(self._kept_modes.values()))
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub
        write_atomically(self._spectrum, buffer.getvalue())

    def _rewrite_metrics(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomically(self._metrics, lines.encode())
        self._metrics_whole = True

    def column(self, name: str) -> np.ndarray:
        """Returns a metric of all epochs, shape (epochs,); NaN where it is missing."""
        return np.array([row.get(name, np.nan) for row in self.rows])

    def last_value(self, name: str) -> float | None:
        """Returns a metric of the last epoch that has it; None if none has."""
        return next((row[name] for row in self.rows[::-1] if name in row), None)


def _epoch_of(line: str) -> float:
    """Returns the epoch of a line; infinity if the line is incomplete."""
    try:
        return json.loads(line)["epoch"]
    except ValueError:
        return float("inf")


def _in_order(eigenvectors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Reorders eigenvectors; float32, as they are stored, so that resuming is exact."""
    return eigenvectors[:, order].astype(np.float32)


def floor_eigenvalues(
    eigenvalues: np.ndarray, *, fraction: float = _FLOOR, axis: int | None = None
) -> np.ndarray:
    """Raises eigenvalues that rounding left near or below zero to a positive floor.

    Args:
      eigenvalues: any shape; NaN stays.
      fraction: the floor, as a fraction of the largest eigenvalue.
      axis: axis along which the largest is taken; by default all axes.

    Returns:
      The eigenvalues, none of them below the floor; for a logarithmic axis.
    """
    largest = np.nanmax(eigenvalues, axis=axis, keepdims=True)
    return np.maximum(eigenvalues, fraction * np.maximum(largest, 1e-30))
