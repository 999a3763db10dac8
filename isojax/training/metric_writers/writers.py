"""Passes metrics on to TensorBoard and Weights & Biases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from isojax.errors import UsageError
from isojax.output import describe_error, run_optional
from isojax.runs import layout
from isojax.runs.evaluation_result import EvaluationResult
from isojax.training.metric_writers.options import LoggingOptions, read_options
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from isojax.training.metric_writers.weights_and_biases import WandbWriter


class Writer(Protocol):
    """The interface of a destination for metrics."""

    name: str

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes arrays (steps,) of the metrics of steps `first`, `first` + 1, ..."""

    def write_epoch(self, row: Mapping[str, Any], eigenvalues: np.ndarray) -> None:
        """Writes a row of `metrics.jsonl` and the eigenvalues, shape (dim,)."""

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """Writes PNG files."""

    def close(self, *, failed: bool) -> None:
        """Ends the run, which may have failed."""


class MetricWriters:
    """Several writers whose failures do not stop a run.

    A writer that fails logs one line and receives nothing more. `metrics.jsonl` has all
    metrics in any case.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Writer]]):
        """Opens the writers.

        Args:
          makers: a function that opens each writer, by the writer's name.
        """
        self._writers: list[Writer] = []
        for name, make in makers.items():
            _attempt(name, partial(self._open, make))

    def __enter__(self) -> Self:
        """Enters a context at whose end the writers are closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the writers."""
        for writer in self._writers:
            run_optional(
                partial(writer.close, failed=error is not None),
                failure=f"{writer.name} was not closed and may lack the last metrics, "
                f"which {layout.METRICS_FILE} has",
            )

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes metrics of consecutive steps.

        Args:
          first: number of the first step, from 1.
          columns: arrays (steps,) by the metric's name.
        """
        self._each(lambda writer: writer.write_steps(first, columns))

    def write_epoch(self, row: Mapping[str, Any], eigenvalues: np.ndarray) -> None:
        """Writes the metrics of an epoch.

        Args:
          row: metrics by name, as in `metrics.jsonl`.
          eigenvalues: eigenvalues of the correlation, shape (dim,).
        """
        self._each(lambda writer: writer.write_epoch(row, eigenvalues))

    def write_figures(self, step: int, folder: Path) -> None:
        """Writes the pictures of a folder.

        Args:
          step: the step at which they were drawn.
          folder: a folder of PNG files.
        """
        pictures = sorted(folder.glob("*.png"))
        self._each(lambda writer: writer.write_figures(step, pictures))

    def _open(self, make: Callable[[], Writer]) -> None:
        self._writers.append(make())

    def _each(self, action: Callable[[Writer], None]) -> None:
        for writer in tuple(self._writers):
            if not _attempt(writer.name, partial(action, writer)):
                self._writers.remove(writer)
                with suppress(Exception):
                    writer.close(failed=True)


def _attempt(name: str, action: Callable[[], object]) -> bool:
    return run_optional(
        action,
        failure=f"{name} receives no more metrics of this run; "
        f"{layout.METRICS_FILE} has them",
    )


def check_packages(options: LoggingOptions) -> None:
    """Checks that the packages which the options require can be imported.

    Args:
      options: the section `logging` of the config.

    Raises:
      UsageError: if a package is missing or cannot be imported.
    """
    required = {
        "wandb": options.wandb != "off",
        "tensorboard": options.tensorboard == "on",
    }
    for field, package in {"wandb": "wandb", "tensorboard": "tensorboardX"}.items():
        if not required[field]:
            continue
        requirement = (
            f"config.logging.{field}={getattr(options, field)} requires the package "
            f"{package}: pip install {package}"
        )
        if not _is_installed(package):
            raise UsageError(requirement)
        try:
            import_module(package)
        # Incompatible versions of packages raise any type of error.
        except Exception as error:
            raise UsageError(
                f"{requirement}. Importing it fails: {describe_error(error)}"
            ) from error


def open_writers(
    workdir: Path,
    config: Mapping[str, Any],
    options: LoggingOptions,
    *,
    steps_done: int,
    past: Iterable[tuple[Mapping[str, Any], np.ndarray]] = (),
) -> MetricWriters:
    """Opens the writers that the options name, for a new or a resumed run.

    Args:
      workdir: the run's folder.
      config: the run's configuration, shown beside its metrics.
      options: the section `logging` of the config; see `check_packages`.
      steps_done: the step that the run resumes from; 0 for a new run.
      past: for each finished epoch its row of `metrics.jsonl` and its eigenvalues,
        shape (dim,).

    Returns:
      The writers, which must be used as a context.
    """
    makers: dict[str, Callable[[], Writer]] = {}
    if options.tensorboard != "off" and _is_installed("tensorboardX"):
        makers["TensorBoard"] = lambda: TensorBoardWriter(
            workdir, steps_done=steps_done, config=config
        )
    if options.wandb != "off":
        makers["Weights & Biases"] = lambda: WandbWriter(
            workdir, config, mode=options.wandb, past=past
        )
    return MetricWriters(makers)


def write_accuracies(
    workdir: Path, config: Mapping[str, Any], result: Mapping[str, Any], *, group: str
) -> None:
    """Adds the accuracies of an evaluation to the run's TensorBoard files.

    Args:
      workdir: the run's folder.
      config: the run's configuration; its section `logging` decides whether anything
        is written.
      result: what `linear_eval.json` holds.
      group: the first part of the tags, such as "linear_eval".

    Raises:
      OSError: if the files cannot be written.
    """
    is_enabled = read_options(config).tensorboard != "off"
    if not is_enabled or not _is_installed("tensorboardX"):
        return
    evaluation = EvaluationResult.from_json(result)
    points = {point.step: point.accuracies for point in evaluation.curve}
    points[result["step"]] = evaluation.pretrained
    writer = TensorBoardWriter(workdir, steps_done=result["step"])
    try:
        writer.write_accuracies(group, points)
    finally:
        writer.close(failed=False)


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    # A folder of this name in the current directory also has a spec, without origin.
    return spec is not None and spec.origin is not None
