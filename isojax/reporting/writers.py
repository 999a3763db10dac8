"""Metrics on their way to TensorBoard and Weights & Biases."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from isojax.errors import UsageError
from isojax.reporting.options import LoggingOptions
from isojax.reporting.tensorboard import TensorBoardWriter
from isojax.reporting.weights_and_biases import WandbWriter


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


class Writers:
    """Several writers, of which none can end a run.

    One that fails says so in a line and gets nothing more. `metrics.jsonl` has
    everything in any case.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Writer]]):
        """Makes the writers, by their names."""
        self._writers: list[Writer] = []
        for name, make in makers.items():
            self._guard(name, lambda make=make: self._writers.append(make()))

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
        self._each(lambda writer: writer.close(failed=error is not None))

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
            if not self._guard(writer.name, lambda writer=writer: action(writer)):
                self._writers.remove(writer)
                with suppress(Exception):
                    writer.close(failed=True)

    def _guard(self, name: str, action: Callable[[], None]) -> bool:
        """Whether `action` did not fail."""
        try:
            action()
        # Whatever a writer meets, a disk or a network, training goes on.
        except Exception as error:
            lines = str(error).splitlines() or [type(error).__name__]
            print(
                f"Warning: {name} failed ({lines[0]}) and gets no more metrics of this "
                "run; metrics.jsonl has them.",
                flush=True,
            )
            return False
        return True


def check_packages(options: LoggingOptions) -> None:
    """Refuses options that want a package which is not installed.

    Raises:
      UsageError: naming the package and how it is installed.
    """
    if options.wandb != "off" and not _has("wandb"):
        raise UsageError(
            f"config.logging.wandb={options.wandb} needs the package wandb: pip install"
            " isojax[wandb], or pip install wandb"
        )
    if options.tensorboard == "on" and not _has("tensorboardX"):
        raise UsageError(
            "config.logging.tensorboard=on needs the package tensorboardX: pip install "
            "isojax[tensorboard], or pip install tensorboardX"
        )


def open_writers(
    workdir: Path,
    config: Mapping[str, Any],
    options: LoggingOptions,
    *,
    steps_done: int,
) -> Writers:
    """Opens what the options name, for a new run or one that goes on.

    Args:
      workdir: the run's folder.
      config: of the run, to be shown beside its metrics.
      options: packages checked by `check_packages`.
      steps_done: of the checkpoint that the run goes on from.

    Returns:
      The writers, a context.
    """
    makers: dict[str, Callable[[], Writer]] = {}
    if options.tensorboard != "off" and _has("tensorboardX"):
        makers["TensorBoard"] = lambda: TensorBoardWriter(
            workdir, steps_done=steps_done
        )
    if options.wandb != "off":
        makers["Weights & Biases"] = lambda: WandbWriter(
            workdir, config, mode=options.wandb
        )
    return Writers(makers)


def _has(package: str) -> bool:
    try:
        module = import_module(package)
    except ImportError:
        return False
    # A folder of this name where the run is started imports too, without a file.
    return getattr(module, "__file__", None) is not None
