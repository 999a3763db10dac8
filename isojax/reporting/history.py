"""The record of a run: `metrics.jsonl` and `spectrum.npz`."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from isojax.errors import UsageError
from isojax.files import write_atomically

FILES = ("metrics.jsonl", "spectrum.npz")


class History:
    """Metrics and eigenvalues of every finished epoch, kept in the run's folder.

    Attributes:
      rows: one dictionary an epoch, as in `metrics.jsonl`.
      eigenvalues: one array (dim,) an epoch, ascending, as in `spectrum.npz`.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        epochs: int | None = None,
        writes: bool = True,
    ):
        """Reads what the folder has.

        Args:
          workdir: the run's folder.
          epochs: where given, the folder's record is cut to so many epochs: those that
            the checkpoint to go on from has seen.
          writes: whether files are written; of several processes one does.
        """
        self._writes = writes
        self._metrics, self._spectrum = (Path(workdir) / name for name in FILES)
        self._metrics_whole = True
        self.rows: list[dict[str, float]] = []
        self.eigenvalues: list[np.ndarray] = []
        if self._spectrum.exists():
            try:
                self._read(epochs)
            except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
                raise UsageError(
                    f"{' or '.join(FILES)} in {workdir} is damaged ({error}); restore "
                    "them from a copy, or move both away to go on without them"
                ) from error
        if epochs is not None and writes:
            self._rewrite_metrics()

    def _read(self, epochs: int | None) -> None:
        lines = self._metrics.read_text().splitlines()
        with np.load(self._spectrum) as spectrum:
            self.eigenvalues = list(spectrum["eigenvalues"][:epochs])
        self.rows = [json.loads(line) for line in lines[: len(self.eigenvalues)]]

    def append(self, row: dict[str, float], eigenvalues: np.ndarray) -> None:
        """Adds an epoch: a line to `metrics.jsonl`, a row to `spectrum.npz`.

        Where the disk is full this is told in a line, and the next epoch writes both.
        """
        self.rows.append(row)
        self.eigenvalues.append(eigenvalues)
        if not self._writes:
            return
        try:
            self._write(row)
        except OSError as error:
            self._metrics_whole = False
            print(f"The metrics could not be saved ({error.strerror}).", flush=True)

    def _write(self, row: dict[str, float]) -> None:
        if self._metrics_whole:
            with self._metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        else:
            self._rewrite_metrics()
        buffer = io.BytesIO()
        np.savez(
            buffer, epoch=self.column("epoch"), eigenvalues=np.stack(self.eigenvalues)
        )
        write_atomically(self._spectrum, buffer.getvalue())

    def _rewrite_metrics(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomically(self._metrics, lines.encode())
        self._metrics_whole = True

    def column(self, name: str) -> np.ndarray:
        """One metric over the epochs, shape (epochs,)."""
        return np.array([row[name] for row in self.rows])
