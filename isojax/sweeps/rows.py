"""What has become of the runs of a sweep, read from their folders."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from isojax.runs import layout
from isojax.runs.collapse import is_collapsed
from isojax.runs.config_file import load_config
from isojax.runs.history import History
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.run_log import logged_names, read_json, read_log_entry

FINISHED, COLLAPSED = "finished", "collapsed"
DIVERGED, CRASHED = "diverged", "crashed"
UNFINISHED = "unfinished"


class Row(NamedTuple):
    """One run as `runs.csv` tells it; None where there is nothing to tell.

    Attributes:
      method: a preset without its ending.
      ema: "yes" or "no".
      seed: from 0.
      status: finished, collapsed, diverged, crashed or unfinished.
      linear: accuracy of the linear readout, 0 to 1.
      knn_20: accuracy of 20 nearest neighbours, 0 to 1.
      participation_ratio: of the last epoch.
      std: of the normalised projections in the last epoch.
      seconds: of training and evaluation, all attempts together.
      steps: trained.
      split: on which the accuracies are measured.
      folder: of the run, within the sweep's.
    """

    method: str
    ema: str
    seed: int
    status: str
    linear: float | None = None
    knn_20: float | None = None
    participation_ratio: float | None = None
    std: float | None = None
    seconds: float | None = None
    steps: int | None = None
    split: str | None = None
    folder: str = ""


def read_row(directory: Path, run: SweepRun) -> Row:
    """What is known of a run."""
    folder = directory / run.name
    record = read_log_entry(directory, run)
    seconds = record.get("seconds")
    row = Row(
        run.method,
        "yes" if run.ema else "no",
        run.seed,
        UNFINISHED,
        seconds=None if seconds is None else round(seconds, 1),
        folder=run.name,
    )
    history, config = [], None
    if (folder / layout.CONFIG_FILE).exists():
        history, config = History(folder, writes=False).rows, load_config(folder)
    if history:
        row = row._replace(steps=history[-1]["step"])
    if "crashed" in record:
        return row._replace(status=CRASHED)
    if (folder / layout.NOT_FINITE_FILE).exists():
        return row._replace(status=DIVERGED)
    if not history:
        return row
    last, dim = history[-1], config.model.projection_dim
    spread = {
        "participation_ratio": last[layout.PARTICIPATION_RATIO],
        "std": last[layout.STD],
    }
    if _is_trained(last, config) and (result := _result(folder, last)):
        return row._replace(
            status=COLLAPSED if is_collapsed(last, dim) else FINISHED,
            linear=result["accuracy"],
            knn_20=result["knn_accuracy"]["20"],
            split=result["split"],
            **spread,
        )
    collapses = [is_collapsed(epoch, dim) for epoch in history[-2:]]
    if config.on_collapse == "stop" and collapses == [True, True]:
        return row._replace(status=COLLAPSED, **spread)
    return row


def part_done(directory: Path, run: SweepRun, config: ConfigDict) -> float:
    """Which part of a run's training is recorded, from 0 to 1."""
    try:
        lines = (directory / run.name / layout.METRICS_FILE).read_text().splitlines()
        last = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):  # none yet, or half a line
        return 0.0
    if config.steps:
        return min(1.0, last["step"] / config.steps)
    return last["epoch"] / config.epochs


def runs_in(directory: Path) -> list[SweepRun]:
    """The runs that have a folder or a record."""
    names = {path.parent.name for path in directory.glob(f"*/{layout.CONFIG_FILE}")}
    names |= logged_names(directory)
    return [run for name in sorted(names) if (run := SweepRun.from_name(name))]


def _result(folder: Path, last: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of the last step; nothing where it lacks what a row tells."""
    if not (folder / layout.RESULT_FILE).exists():
        return {}
    result = read_json(folder / layout.RESULT_FILE)
    is_whole = "accuracy" in result and "20" in result.get("knn_accuracy", {})
    return result if is_whole and result.get("step") == last["step"] else {}


def _is_trained(last: dict[str, Any], config: ConfigDict) -> bool:
    return last["epoch"] >= config.epochs or 0 < config.steps <= last["step"]
