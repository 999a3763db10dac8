"""The record of a run: `metrics.jsonl` and `spectrum.npz`."""

import io
import json
import os
from pathlib import Path

import numpy as np

from isojax.files import write_atomically


class History:
    """Metrics and eigenvalues of every finished epoch, kept in the run's folder.

    Attributes:
      rows: one dictionary an epoch, as in `metrics.jsonl`.
      eigenvalues: one array (dim,) an epoch, ascending, as in `spectrum.npz`.
    """

    def __init__(self, workdir: str | os.PathLike, *, epochs: int | None = None):
        """Reads what the folder has.

        Args:
          workdir: the run's folder.
          epochs: where given, the folder's record is cut to so many epochs: those that
            the checkpoint to go on from has seen.
        """
        self._metrics = Path(workdir) / "metrics.jsonl"
        self._spectrum = Path(workdir) / "spectrum.npz"
        self.rows: list[dict[str, float]] = []
        self.eigenvalues: list[np.ndarray] = []
        if self._spectrum.exists():
            lines = self._metrics.read_text().splitlines()
            with np.load(self._spectrum) as spectrum:
                self.eigenvalues = list(spectrum["eigenvalues"][:epochs])
            self.rows = [json.loads(line) for line in lines[: len(self.eigenvalues)]]
        if epochs is not None:
            lines = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_atomically(self._metrics, lines.encode())

    def append(self, row: dict[str, float], eigenvalues: np.ndarray) -> None:
        """Adds an epoch: a line to `metrics.jsonl`, a row to `spectrum.npz`."""
        self.rows.append(row)
        self.eigenvalues.append(eigenvalues)
        with self._metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        buffer = io.BytesIO()
        np.savez(
            buffer, epoch=self.column("epoch"), eigenvalues=np.stack(self.eigenvalues)
        )
        write_atomically(self._spectrum, buffer.getvalue())

    def column(self, name: str) -> np.ndarray:
        """One metric over the epochs, shape (epochs,)."""
        return np.array([row[name] for row in self.rows])
