"""Metrics on their way to TensorBoard and Weights & Biases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from isojax.errors import UsageError
from isojax.output import attempt, describe_error
from isojax.runs import layout
from isojax.runs.evaluation_result import EvaluationResult
from isojax.training.metric_writers.options import LoggingOptions, read_options
from isojax.training.metric_writers.tensorboard import TensorBoardWriter
from isojax.training.metric_writers.weights_and_biases import WandbWriter


class Writer(Protocol):
    """What a place for metrics can do."""

    name: str

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Metrics of steps `first`, `first` + 1, ..., one array (steps,) a name."""

    def write_epoch(self, row: Mapping[str, float], eigenvalues: np.ndarray) -> None:
        """A row of `metrics.jsonl`, and the eigenvalues, shape (dim,)."""

    def write_figures(self, step: int, pictures: Sequence[Path]) -> None:
        """PNG files."""

    def close(self, *, failed: bool) -> None:
        """The end of the run, which may have failed."""


class MetricWriters:
    """Several writers, none of which can end a run.

    One that fails logs one line and receives nothing more. `metrics.jsonl` has all
    metrics in any case.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Writer]]):
        """Opens the writers.

        Args:
          makers: a function that opens each writer, by the writer's name.
        """
        self._writers: list[Writer] = []
        for name, make in makers.items():
            _attempt(name, lambda make=make: self._writers.append(make()))

    def __enter__(self) -> Self:
        """The writers, to be closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes them."""
        for writer in self._writers:
            attempt(
                lambda writer=writer: writer.close(failed=error is not None),
                failure=f"{writer.name} was not closed and may lack the last metrics, "
                f"which {layout.METRICS_FILE} has",
            )

    def write_steps(self, first: int, columns: Mapping[str, np.ndarray]) -> None:
        """Writes metrics of consecutive steps.

        Args:
          first: number of the first step, from 1.
          columns: one array (steps,) a name.
        """
        self._each(lambda writer: writer.write_steps(first, columns))

    def write_epoch(self, row: Mapping[str, float], eigenvalues: np.ndarray) -> None:
        """Writes an epoch.

        Args:
          row: as in `metrics.jsonl`.
          eigenvalues: of the correlation, shape (dim,).
        """
        self._each(lambda writer: writer.write_epoch(row, eigenvalues))

    def write_figures(self, step: int, folder: Path) -> None:
        """Writes the pictures of a folder.

        Args:
          step: at which they were drawn.
          folder: with PNG files.
        """
        pictures = sorted(folder.glob("*.png"))
        self._each(lambda writer: writer.write_figures(step, pictures))

    def _each(self, action: Callable[[Writer], None]) -> None:
        for writer in tuple(self._writers):
            if not _attempt(writer.name, lambda writer=writer: action(writer)):
                self._writers.remove(writer)
                with suppress(Exception):
                    writer.close(failed=True)


def _attempt(name: str, action: Callable[[], object]) -> bool:
    return attempt(
        action,
        failure=f"{name} receives no more metrics of this run; "
        f"{layout.METRICS_FILE} has them",
    )


def check_packages(options: LoggingOptions) -> None:
    """Refuses options that require a package which cannot be imported.

    Args:
      options: the section `logging` of the config.

    Raises:
      UsageError: naming the package, why it cannot be imported, and the command that
        installs it.
    """
    required = {
        "wandb": options.wandb != "off",
        "tensorboard": options.tensorboard == "on",
    }
    for field, package in {"wandb": "wandb", "tensorboard": "tensorboardX"}.items():
        if not required[field]:
            continue
        needs = (
            f"config.logging.{field}={getattr(options, field)} needs the package "
            f"{package}: pip install isojax[{field}], or pip install {package}"
        )
        if not _is_installed(package):
            raise UsageError(needs)
        try:
            import_module(package)
        # Packages of incompatible versions raise anything here.
        except Exception as error:
            raise UsageError(
                f"{needs}. Importing it fails: {describe_error(error)}"
            ) from error


def open_writers(
    workdir: Path,
    config: Mapping[str, Any],
    options: LoggingOptions,
    *,
    steps_done: int,
    past: Iterable[tuple[Mapping[str, float], np.ndarray]] = (),
) -> MetricWriters:
    """Opens the writers that the options name, for a new or a resumed run.

    Args:
      workdir: the run's folder.
      config: the run's configuration, shown beside its metrics.
      options: the section `logging` of the config; see `check_packages`.
      steps_done: step of the checkpoint that the run resumes from.
      past: the epochs of `metrics.jsonl` so far, each with its eigenvalues, shape
        (dim,).

    Returns:
      The writers, a context.
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
      config: the run's configuration, whose section `logging` chooses.
      result: what `linear_eval.json` holds.
      group: first part of the tags, such as "linear_eval".

    Raises:
      OSError: if the files cannot be written.
    """
    is_wanted = read_options(config).tensorboard != "off"
    if not is_wanted or not _is_installed("tensorboardX"):
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
    # A folder of this name in the current directory has a spec too, without a file.
    return spec is not None and spec.origin is not None
