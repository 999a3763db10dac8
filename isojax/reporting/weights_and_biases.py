"""A run's metrics for Weights & Biases."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isojax.files import write_atomically
from isojax.reporting.spectrum import floored

RUN_FILE = "wandb.json"
_PROJECT = "isojax"
# Logging a step takes wandb a millisecond, and its plots slow down at 100,000 points.
_MOST_STEPS = 16  # of an epoch
_INIT_SECONDS, _FINISH_SECONDS = 30, 120


class WandbWriter:
    """One run at Weights & Biases, which a resumed run goes on with.

    `wandb.json` in the run's folder keeps its id and the last step logged: steps that
    are trained a second time after a restart are the same, and are not logged again.
    """

    name = "Weights & Biases"

    def __init__(self, workdir: Path, config: Mapping[str, Any], *, mode: str):
        """Starts the run, offline where there is no login or no network.

        Args:
          workdir: the run's folder, in which wandb keeps its files too.
          config: of the run.
          mode: "online" or "offline".
        """
        import wandb

        self._wandb = wandb
        self._path = workdir / RUN_FILE
        kept = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._id = kept.get("id") or os.urandom(8).hex()
        self._last_step = kept.get("step", 0)
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
            _say(f"not to be reached ({reason}), so the run is logged offline")
            mode = "offline"
            wandb.teardown()  # its service still holds the id
            self._run = wandb.init(mode=mode, **arguments)
        self._is_offline = mode == "offline"
        self._remember()

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Logs metrics of some of the steps, equally far apart; as in `Writers`."""
        count = len(next(iter(columns.values())))
        stride = -(-count // _MOST_STEPS)
        for step in range(first, first + count):
            if step % stride == 0:
                scalars = {
                    name: float(values[step - first])
                    for name, values in columns.items()
                }
                self._log(step, scalars)

    def write_epoch(self, row: Mapping[str, float], eigenvalues: np.ndarray) -> None:
        """Logs an epoch's metrics and a histogram of its eigenvalues."""
        histogram = self._wandb.Histogram(np.log10(floored(eigenvalues)))
        self._log(row["step"], {**row, "spectrum/log10_eigenvalues": histogram})
        self._last_step = max(self._last_step, row["step"])
        self._remember()

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """Uploads PNG files."""
        images = {
            f"figures/{path.stem}": self._wandb.Image(str(path)) for path in pictures
        }
        self._run.log(images, step=step)

    def close(self, *, failed: bool) -> None:
        """Ends the run, and waits two minutes at most for what is still to be sent."""
        finishing = threading.Thread(
            target=self._run.finish, kwargs={"exit_code": int(failed)}, daemon=True
        )
        finishing.start()
        finishing.join(_FINISH_SECONDS)
        if finishing.is_alive() or self._is_offline:
            _say(f"send it by wandb sync {Path(self._run.dir).parent}")

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step > self._last_step:
            self._run.log(dict(values), step=step)

    def _remember(self) -> None:
        content = json.dumps({"id": self._id, "step": self._last_step}) + "\n"
        write_atomically(self._path, content.encode())


def _say(text: str) -> None:
    print(f"Weights & Biases: {text}", flush=True)
