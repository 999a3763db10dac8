"""States and results of a sweep's runs, read from their folders."""

import json
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.runs.collapse import is_collapsed
from isojax.runs.config_file import load_config
from isojax.runs.evaluation_result import (
    LINEAR,
    RAW_PIXELS,
    EvaluationResult,
    knn,
)
from isojax.runs.history import History
from isojax.runs.stored_run import read_result
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.run_log import logged_names, read_log_entry

FINISHED, COLLAPSED = "finished", "collapsed"
DIVERGED, CRASHED = "diverged", "crashed"
UNFINISHED = "unfinished"


class Row(NamedTuple):
    """A line of `runs.csv` about one run; unknown values are None.

    Attributes:
      method: the preset without its ending.
      ema: "yes" if the target is a moving average, otherwise "no".
      seed: the seed, from 0.
      status: finished, collapsed, diverged, crashed or unfinished.
      linear: the accuracy of the linear readout, 0 to 1.
      knn_20: the accuracy of 20 nearest neighbours, 0 to 1.
      participation_ratio: the participation ratio in the last epoch.
      std: the standard deviation of the normalised projections in the last epoch.
      seconds: the time of training and evaluation, including failed attempts.
      steps: the number of training steps.
      split: the split on which the accuracies are measured.
      folder: the name of the run's folder in the sweep's.
      effective_rank: RankMe of the features in the last epoch.
      alpha_req: alpha-ReQ of the features in the last epoch.
      nesum: NESum of the features in the last epoch.
      lidar: LiDAR of the features in the last epoch.
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
    effective_rank: float | None = None
    alpha_req: float | None = None
    nesum: float | None = None
    lidar: float | None = None


def read_row(directory: Path, run: SweepRun) -> Row:
    """Reads the state and the results of a run.

    Args:
      directory: the sweep's folder.
      run: the run.

    Returns:
      The row of `runs.csv`.

    Raises:
      UsageError: if a file of the run is damaged.
    """
    folder = directory / run.name
    log_entry = read_log_entry(directory, run)
    seconds = log_entry.get("seconds")
    row = Row(
        run.method,
        "yes" if run.ema else "no",
        run.seed,
        UNFINISHED,
        seconds=None if seconds is None else round(seconds, 1),
        folder=run.name,
    )
    has_config = (folder / layout.CONFIG_FILE).exists()
    epochs = History(folder, writes=False).rows if has_config else []
    if epochs:
        row = row._replace(steps=int(epochs[-1]["step"]))
    if "crashed" in log_entry:
        return row._replace(status=CRASHED)
    if (folder / layout.NOT_FINITE_FILE).exists():
        return row._replace(status=DIVERGED)
    if not epochs:
        return row
    return _add_results(row, folder, epochs, load_config(folder))


def _add_results(
    row: Row, folder: Path, epochs: list[dict[str, float]], config: ConfigDict
) -> Row:
    """Adds the results of a run that neither crashed nor diverged, if it has ended."""
    last, dim = epochs[-1], config.model.projection_dim
    measured = row._replace(
        participation_ratio=last[layout.PARTICIPATION_RATIO],
        std=last[layout.STD],
        effective_rank=last.get(layout.EFFECTIVE_RANK),
        alpha_req=last.get(layout.SPECTRUM_EXPONENT),
        nesum=last.get(layout.EIGENVALUE_SUM),
        lidar=last.get(layout.LIDAR),
    )
    if _is_trained(last, config) and (result := _find_result(folder, last)):
        return measured._replace(
            status=COLLAPSED if is_collapsed(last, dim) else FINISHED,
            linear=result.pretrained[LINEAR],
            knn_20=result.pretrained[knn(20)],
            split=result.split,
        )
    collapses = [is_collapsed(epoch, dim) for epoch in epochs[-2:]]
    if config.on_collapse == "stop" and collapses == [True, True]:
        return measured._replace(status=COLLAPSED)
    return row


def part_done(directory: Path, run: SweepRun, config: ConfigDict) -> float:
    """Returns the fraction of a run's training that its metrics cover, from 0 to 1."""
    try:
        lines = (directory / run.name / layout.METRICS_FILE).read_text().splitlines()
        last = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):  # no line yet, or an incomplete one
        return 0.0
    if config.steps:
        return min(1.0, last["step"] / config.steps)
    return last["epoch"] / config.epochs


def runs_in(directory: Path) -> list[SweepRun]:
    """Returns the runs that have a folder or an entry in the log."""
    names = {path.parent.name for path in directory.glob(f"*/{layout.CONFIG_FILE}")}
    names |= logged_names(directory)
    return [run for name in sorted(names) if (run := SweepRun.from_name(name))]


def has_raw_pixels(folder: Path) -> bool:
    """Returns whether a run of the sweep has measured raw pixels of a run's images.

    Runs whose files are damaged do not count.

    Args:
      folder: the run's folder, in that of the sweep.
    """
    data = load_config(folder).data
    for path in folder.parent.glob(f"*/{layout.RESULT_FILE}"):
        try:
            result, config = read_result(path.parent), load_config(path.parent)
        except UsageError:
            continue
        if LINEAR in result.accuracies[RAW_PIXELS] and config.data == data:
            return True
    return False


def _find_result(folder: Path, last: dict[str, float]) -> EvaluationResult | None:
    """Reads the evaluation of the last step; None if it lacks an accuracy of a row."""
    result = read_result(folder)
    is_complete = {LINEAR, knn(20)} <= result.pretrained.keys()
    return result if is_complete and result.step == last["step"] else None


def _is_trained(last: dict[str, float], config: ConfigDict) -> bool:
    return last["epoch"] >= config.epochs or 0 < config.steps <= last["step"]
