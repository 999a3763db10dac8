"""Writes metrics for Weights & Biases."""

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isojax.files import write_atomically
from isojax.output import print_line
from isojax.runs import layout
from isojax.runs.history import floor_eigenvalues

_PROJECT = "isojax"
# wandb takes a millisecond to log a step, and its plots are slow at 100,000 points.
_MAX_STEPS_PER_EPOCH = 16
_INIT_SECONDS, _FINISH_SECONDS = 30, 120


class WandbWriter:
    """One run at Weights & Biases, which continues when training resumes.

    A killed process loses metrics that wandb has not yet written or sent, and wandb
    ignores steps that it already has. Each start therefore logs the epochs of
    `metrics.jsonl` again from the first step that may be missing: online, the server's
    next step; offline, the step after the last session that was closed. `wandb.json`
    in the run's folder records the id and the last step of that session.
    """

    name = "Weights & Biases"

    def __init__(
        self,
        workdir: Path,
        config: Mapping[str, Any],
        *,
        mode: str,
        past: Iterable[tuple[Mapping[str, Any], np.ndarray]] = (),
    ):
        """Starts the run; offline if there is no login or the server is unreachable.

        Args:
          workdir: the run's folder, which also receives wandb's own files.
          config: the run's configuration.
          mode: "online" or "offline".
          past: for each finished epoch its row of `metrics.jsonl` and its eigenvalues,
            shape (dim,).
        """
        import wandb

        self._wandb = wandb
        self._path = workdir / layout.WANDB_FILE
        stored = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._id = stored.get("id") or os.urandom(8).hex()
        self._closed_step = stored.get("step", 0)
        settings = wandb.Settings(
            silent=True, console="off", init_timeout=_INIT_SECONDS
        )
        wandb.setup(settings=settings)
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            _say("no login, so the run is logged offline; run `wandb login` first")
            mode = "offline"
        arguments = {
            "project": os.environ.get("WANDB_PROJECT", _PROJECT),
            "name": workdir.resolve().name,
            "dir": str(workdir),
            "config": dict(config),
            "id": self._id,
            "resume": "allow",
            "settings": settings,
        }
        try:
            self._run = wandb.init(mode=mode, **arguments)
        except wandb.errors.CommError as error:
            reason = str(error).splitlines()[0]
            _say(f"the server is unreachable ({reason}), so the run is logged offline")
            mode = "offline"
            wandb.teardown()  # otherwise the service would still hold the id
            self._run = wandb.init(mode=mode, **arguments)
        self._is_offline = mode == "offline"
        self._first_step = self._closed_step + 1 if self._is_offline else self._run.step
        self._last_step = self._first_step - 1
        self._held: tuple[int, dict[str, Any]] | None = None
        self._save_state()
        for row, eigenvalues in past:
            self.write_epoch(row, eigenvalues)

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Logs metrics of equally spaced steps; see `MetricWriters.write_steps`.

        The last row is held back until the epoch's metrics are added to it: wandb
        completes a row when the next one begins, and a killed process must not leave
        one without the other.
        """
        self._log_held()
        count = len(next(iter(columns.values())))
        stride = -(-count // _MAX_STEPS_PER_EPOCH)
        for step in range(first, first + count):
            if step % stride == 0:
                scalars = {
                    name: float(values[step - first])
                    for name, values in columns.items()
                }
                self._log_held()
                self._held = step, scalars

    def write_epoch(self, row: Mapping[str, Any], eigenvalues: np.ndarray) -> None:
        """Logs an epoch's metrics and a histogram of its eigenvalues."""
        histogram = self._wandb.Histogram(np.log10(floor_eigenvalues(eigenvalues)))
        values = {**row, layout.LOG_EIGENVALUES: histogram}
        if self._held and self._held[0] == row["step"]:
            values = self._held[1] | values
            self._held = None
        self._log_held()
        self._log(row["step"], values)

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """Uploads PNG files."""
        images = {
            f"{layout.FIGURES_PREFIX}{path.stem}": self._wandb.Image(str(path))
            for path in pictures
        }
        self._run.log(images, step=step)

    def close(self, *, failed: bool) -> None:
        """Ends the run; waits up to two minutes until all metrics are sent."""
        self._log_held()
        errors: list[Exception] = []

        def finish() -> None:
            try:
                self._run.finish(exit_code=int(failed))
            except Exception as error:
                errors.append(error)

        finishing = threading.Thread(target=finish, daemon=True)
        finishing.start()
        finishing.join(_FINISH_SECONDS)
        if errors:
            raise errors[0]
        if not finishing.is_alive():
            self._closed_step = max(self._closed_step, self._last_step)
            self._save_state()
        if finishing.is_alive() or self._is_offline:
            _say(f"to upload the run, use wandb sync {Path(self._run.dir).parent}")

    def _log_held(self) -> None:
        if self._held:
            self._log(*self._held)
            self._held = None

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self._first_step:
            self._run.log(dict(values), step=step)
            self._last_step = max(self._last_step, step)

    def _save_state(self) -> None:
        content = json.dumps({"id": self._id, "step": self._closed_step}) + "\n"
        write_atomically(self._path, content.encode())


def _say(text: str) -> None:
    print_line(f"Weights & Biases: {text}")
