"""Records finished epochs in the run's folder and passes them to the metric writers."""

from collections.abc import Sequence

import jax
import numpy as np

from isojax import processes
from isojax.output import run_optional
from isojax.runs import layout
from isojax.runs.history import History
from isojax.runs.mirror import upload_history_later
from isojax.training.lidar import make_lidar
from isojax.training.metric_writers import MetricWriters, open_writers
from isojax.training.monitor import (
    alignment_metrics,
    make_evaluation,
    spectrum_metrics,
)
from isojax.training.objective import PROBE_METRICS
from isojax.training.run_context import Position, RunContext
from isojax.training.step_context import Metrics

_LOGGED_EVERY_STEP = ("loss", "learning_rate", "gradient_norm")


class EpochRecorder:
    """Records finished epochs.

    Attributes:
      history: metrics and spectrum of all finished epochs.
    """

    def __init__(self, context: RunContext, history: History, writers: MetricWriters):
        """Builds the evaluation of an epoch.

        Args:
          context: the run.
          history: history of the run.
          writers: metric writers of the run.
        """
        self.history = history
        self._context = context
        self._writers = writers
        views = context.step_context.views
        self._evaluate = make_evaluation(
            context.step_context.network, mean=views.mean, std=views.std
        )
        self._measure_lidar = make_lidar(context.step_context.network, views)

    def record_epoch(
        self,
        epoch: int,
        position: Position,
        steps: Sequence[Metrics],
        *,
        steps_per_second: float,
    ) -> None:
        """Records a finished epoch, and evaluates it if the config says so.

        Args:
          epoch: number of the epoch, from 0.
          position: position at the end of the epoch.
          steps: metrics of the epoch's steps.
          steps_per_second: speed; 0 if it was not measured.
        """
        on_host = jax.device_get(steps)
        context, state = self._context, position.state
        dropped = () if context.dataset.num_classes else PROBE_METRICS
        row: dict[str, float] = {
            "step": position.steps_done,
            "epoch": epoch + 1,
            **{
                f"{layout.TRAIN_PREFIX}{name}": float(
                    np.mean([metrics[name] for metrics in on_host])
                )
                for name in sorted(on_host[0])
                if name not in dropped
            },
        }
        if steps_per_second:
            row[layout.IMAGES_PER_SECOND] = steps_per_second * context.config.batch_size
        correlation = np.asarray(state.correlation, np.float64)
        eigenvalues, eigenvectors = np.linalg.eigh(correlation)
        row |= spectrum_metrics(eigenvalues)
        row |= alignment_metrics(state.params, correlation)
        is_last = position.steps_done == context.last_step
        if is_last or (epoch + 1) % context.config.evaluate_every_epochs == 0:
            row |= self._evaluate(state, context.dataset.evaluation)
            if context.options.lidar:
                row |= self._measure_lidar(state, context.feed)
        modes = eigenvectors if context.options.tracked_modes else None
        self.history.append(row, eigenvalues, modes)
        self.write_steps(position.steps_done, on_host)
        self._writers.write_epoch(row, eigenvalues)
        upload_history_later(context.workdir)

    def write_steps(self, steps_done: int, steps: Sequence[Metrics]) -> None:
        """Passes the metrics of consecutive steps to the metric writers.

        Args:
          steps_done: number of the last of the steps.
          steps: metrics of each step.
        """
        on_host = jax.device_get(steps)
        columns = {
            f"{layout.STEP_PREFIX}{name}": np.array([step[name] for step in on_host])
            for name in _LOGGED_EVERY_STEP
        }
        self._writers.write_steps(steps_done - len(steps) + 1, columns)

    def keep_modes(self, steps: Sequence[int]) -> None:
        """Keeps the eigenvectors from which a resumed run continues mode tracking.

        Args:
          steps: steps of the checkpoints that a run may resume from.
        """
        self.history.keep_modes({s // self._context.steps_per_epoch for s in steps})

    def draw_figures(self) -> None:
        """Draws the figures of the epochs so far."""
        draw_figures(self._context, self.history)

    def write_figures(self, steps_done: int) -> None:
        """Passes the figures to the metric writers.

        Args:
          steps_done: step at which the figures were drawn.
        """
        self._writers.write_figures(steps_done, self._context.figures)


def open_history(context: RunContext, position: Position) -> History:
    """Opens the history of a run and drops epochs after the position.

    Args:
      context: the run.
      position: position from which the run resumes.
    """
    # The history of a finished run is complete, even if it ends inside an epoch.
    is_finished = position.steps_done >= context.last_step
    return History(
        context.workdir,
        epochs=None if is_finished else position.steps_done // context.steps_per_epoch,
        correlation=np.asarray(position.state.correlation, np.float64),
        writes=processes.is_first_process(),
    )


def open_metric_writers(
    context: RunContext, history: History, position: Position
) -> MetricWriters:
    """Opens the metric writers in the first process; other processes have none.

    Args:
      context: the run.
      history: history of the run.
      position: position from which the run resumes.
    """
    if not processes.is_first_process():
        return MetricWriters({})
    return open_writers(
        context.workdir,
        context.config.to_dict(),
        context.options,
        steps_done=position.steps_done,
        past=zip(history.rows, history.eigenvalues, strict=True),
    )


def draw_figures(context: RunContext, history: History) -> None:
    """Draws the figures of the recorded epochs, in the first process.

    Args:
      context: the run.
      history: history of the run.
    """

    def draw() -> None:
        from isojax.reporting.figures import save_figures  # imports Matplotlib

        save_figures(
            context.figures, history, evaluation_name=context.dataset.evaluation_name
        )

    if processes.is_first_process() and history.rows:
        run_optional(draw, failure="the figures were not drawn")
