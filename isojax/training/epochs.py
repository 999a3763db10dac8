"""The epochs of a run: dispatches steps, records epochs, checks for collapse."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import jax
from tqdm import tqdm

from isojax import data_parallel, processes
from isojax.errors import UsageError, choose
from isojax.output import run_optional
from isojax.runs import layout
from isojax.runs.collapse import explain_collapse, is_collapsed
from isojax.runs.machine import save_machine
from isojax.training.epoch_recorder import EpochRecorder
from isojax.training.health import ON_COLLAPSE, check_finite
from isojax.training.monitor import describe
from isojax.training.run_context import Position, RunContext
from isojax.training.sample_views import draw_views
from isojax.training.step_context import Metrics

_STEPS_PER_REPORT = 10
# Steps dispatched after the one that the host waits for, so that devices never idle:
# the host never reads a result of the newest step.
_STEPS_AHEAD = 1


def train_epochs(
    context: RunContext, recorder: EpochRecorder, position: Position, bar: tqdm
) -> Position:
    """Trains and records the remaining epochs.

    Args:
      context: the run.
      recorder: recorder of finished epochs.
      position: position from which training starts.
      bar: progress bar.

    Returns:
      The last position, which is before the last step if the run was asked to stop.
    """
    first_epoch = position.steps_done // context.steps_per_epoch
    for epoch in range(first_epoch, context.epochs):
        trained = train_epoch(
            context,
            position,
            epoch,
            bar=bar,
            on_first_step=_on_first_step if epoch == first_epoch else None,
        )
        position = trained.position
        if position.steps_done % context.steps_per_epoch:
            # The next checkpoint is from inside an epoch.
            saved = [*context.checkpoints.steps(), position.steps_done]
            recorder.keep_modes(saved)
        if position.steps_done < _end_of_epoch(context, epoch):
            recorder.write_steps(position.steps_done, trained.metrics)
            return position
        recorder.record_epoch(
            epoch,
            position,
            trained.metrics,
            steps_per_second=trained.steps_per_second,
        )
        is_last = position.steps_done == context.last_step
        if trained.stop_requested and not is_last:
            return position
        processes.print_once(
            describe(recorder.history.rows[-1], context.epochs), write=tqdm.write
        )
        if is_last or (epoch + 1) % context.config.checkpoint_every_epochs == 0:
            context.checkpoints.save(position.state)
        _check_collapse(context, recorder, position)
    return position


def _end_of_epoch(context: RunContext, epoch: int) -> int:
    return min(context.last_step, (epoch + 1) * context.steps_per_epoch)


class TrainedEpoch(NamedTuple):
    """Result of `train_epoch`.

    Attributes:
      position: position after the last step.
      metrics: metrics of each step, on the devices.
      steps_per_second: speed of the timed steps; 0 if none was timed.
      stop_requested: whether any process was asked to stop.
    """

    position: Position
    metrics: list[Metrics]
    steps_per_second: float
    stop_requested: bool


def train_epoch(
    context: RunContext,
    position: Position,
    epoch: int,
    *,
    bar: tqdm,
    on_first_step: Callable[[RunContext], None] | None,
) -> TrainedEpoch:
    """Trains the remaining steps of an epoch, or until the run is asked to stop.

    Args:
      context: the run.
      position: position from which training starts, inside the epoch.
      epoch: number of the epoch, from 0.
      bar: progress bar.
      on_first_step: called once the first step is dispatched. This step is then not
        timed, because it includes the compilation. None to time every step.

    Returns:
      The position after the last step, and the measurements.
    """
    state, done = position
    start, timed = time.perf_counter(), 0
    metrics: list[Metrics] = []
    running: deque[data_parallel.StepResult] = deque()
    stop_requested = False
    first = done - epoch * context.steps_per_epoch
    with closing(context.feed.epoch(epoch, first=first)) as batches:
        for batch in itertools.islice(batches, context.last_step - done):
            result = context.step(
                state, batch, context.feed.shared, stop_requested=context.stop.is_set
            )
            state = result.state
            _copy_ahead(result)
            if on_first_step is not None and not metrics:
                on_first_step(context)  # while the devices compute
                start = time.perf_counter()
            else:
                timed += 1
            metrics.append(result.report.metrics)
            running.append(result)
            if len(running) > _STEPS_AHEAD:
                done += 1
                stop_requested = finish_step(context, running.popleft(), done, bar)
            if stop_requested:
                break
    while running:
        done += 1
        stop_requested |= finish_step(context, running.popleft(), done, bar)
    seconds = time.perf_counter() - start
    return TrainedEpoch(Position(state, done), metrics, timed / seconds, stop_requested)


def _copy_ahead(result: data_parallel.StepResult) -> None:
    """Starts to copy what `finish_step` reads of every step, without waiting for it."""
    result.report.not_finite.copy_to_host_async()
    result.stop_requested.copy_to_host_async()


def finish_step(
    context: RunContext, result: data_parallel.StepResult, step: int, bar: tqdm
) -> bool:
    """Waits for a dispatched step and checks its numbers.

    Args:
      context: the run.
      result: result of the step.
      step: number of the step, from 1.
      bar: progress bar.

    Returns:
      Whether any process was asked to stop.

    Raises:
      UsageError: if the step's numbers are not finite.
    """
    metrics = result.report.metrics
    if not_finite := int(result.report.not_finite):
        context.checkpoints.wait()
        saved = context.checkpoints.steps()
        check_finite(
            not_finite,
            jax.device_get(metrics),
            step=step,
            workdir=context.workdir,
            last_checkpoint=saved[-1] if saved else None,
        )
    if step % _STEPS_PER_REPORT == 0 and not bar.disable:
        bar.set_postfix(loss=f"{float(metrics['loss']):.3f}", refresh=False)
    bar.update(context.config.batch_size)
    return bool(result.stop_requested)


def _on_first_step(context: RunContext) -> None:
    """Writes the machine's description and the figure of the views."""
    context.stop.ends_at_once = False  # from now on there is a state to save
    if not processes.is_first_process():
        return
    views = context.step_context.views
    run_optional(
        lambda: save_machine(context.workdir),
        failure=f"{layout.MACHINE_FILE} was not written",
        write=tqdm.write,
    )
    run_optional(
        lambda: draw_views(context.figures, context.feed, views),
        failure=f"{layout.FIGURES_FOLDER}/{layout.VIEWS_PICTURE} was not drawn",
        write=tqdm.write,
    )


def _check_collapse(
    context: RunContext, recorder: EpochRecorder, position: Position
) -> None:
    """Warns once if an epoch began and ended collapsed, or ends the run."""
    rows, config = recorder.history.rows, context.config
    recent = [is_collapsed(row, config.model.projection_dim) for row in rows[-3:]]
    if recent[-2:] != [True, True]:
        return
    explanation = explain_collapse(rows[-1], config.method)
    if choose("config.on_collapse", config.on_collapse, ON_COLLAPSE):
        context.checkpoints.save(position.state)
        context.checkpoints.close()
        recorder.draw_figures()
        raise UsageError(f"{explanation} The state is saved and the run is stopped.")
    if recent != [True, True, True]:
        processes.print_once(f"Warning: {explanation}", write=tqdm.write)
