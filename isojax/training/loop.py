"""Pretraining: the loop around the training step."""

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from isojax import parallel
from isojax.data import Dataset, load_dataset
from isojax.errors import UsageError, choose
from isojax.invocation import command
from isojax.output import attempt, is_terminal, say
from isojax.runs import layout
from isojax.runs.collapse import explain_collapse, is_collapsed
from isojax.runs.folder import open_run_folder
from isojax.runs.machine import save_machine
from isojax.stopping import StopRequest
from isojax.training.agreement import check_agreement
from isojax.training.assembly import (
    check_data,
    first_state,
    last_step,
    steps_per_epoch,
    with_normalization,
)
from isojax.training.config import check_config
from isojax.training.epoch_recorder import (
    EpochRecorder,
    draw_figures,
    open_history,
    open_metric_writers,
)
from isojax.training.fork import fork_run
from isojax.training.health import ON_COLLAPSE, check_finite
from isojax.training.metric_writers import check_packages, read_options
from isojax.training.monitor import describe, describe_columns
from isojax.training.run_context import (
    Position,
    RunContext,
    open_run_context,
    starting_position,
)
from isojax.training.sample_views import draw_views
from isojax.training.settings import image_source
from isojax.training.step import Metrics

_STEPS_PER_REPORT = 10
# Steps dispatched beyond the one that the host waits for, so that devices never idle.
_STEPS_AHEAD = 1


def pretrain(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    fork_from: str | os.PathLike | None = None,
    stop: StopRequest | None = None,
) -> Path:
    """Pretrains an encoder, or resumes an interrupted run.

    Args:
      config: the run's configuration, with the fields of `configs/base.py`.
      workdir: the run's folder.
      data_dir: folder of the data sets, as in `load_dataset`.
      fork_from: folder of another run. A new run starts from its newest checkpoint.
      stop: request to stop. Once it `is_set`, the run finishes the steps already
        dispatched, saves, sets `has_stopped_run` and returns.

    Returns:
      The folder, which contains config, metrics, spectrum, checkpoints and figures.

    Raises:
      UsageError: if the config is invalid, the folder contains something else, or the
        numbers diverge.
    """
    check_config(config)
    parallel.in_first_process(lambda: check_packages(read_options(config)))
    dataset = load_dataset(image_source(config.data), data_dir=data_dir)
    check_agreement(config, dataset, workdir=workdir, fork_from=fork_from)
    config = _normalize_by_own_images(config, dataset)
    check_data(config, dataset)
    if fork_from is not None:
        fork_run(
            fork_from,
            workdir,
            config,
            like=jax.eval_shape(lambda: first_state(config, dataset)),
            steps_per_epoch=steps_per_epoch(config, dataset),
            last_step=last_step(config, dataset),
        )
    workdir = Path(workdir)
    with ExitStack() as held:
        parallel.in_first_process(
            lambda: held.enter_context(open_run_folder(workdir, config))
        )
        context = open_run_context(config, dataset, workdir, stop or StopRequest())
        start = starting_position(context)
        history = open_history(context, start)
        if start.steps_done >= context.last_step:
            draw_figures(context, history)
            _say(
                f"The run in {workdir} is finished. To start a new run, choose another "
                "--workdir."
            )
            return workdir
        with (
            context.checkpoints,
            open_metric_writers(context, history, start) as writers,
        ):
            train(context, EpochRecorder(context, history, writers), start)
    return workdir


def _normalize_by_own_images(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    complete = with_normalization(config, dataset)
    if complete is not config:
        data = complete.data
        _say(
            f"Normalising {data.name} with mean {data.mean} and standard deviation "
            f"{data.std}, computed from its training images."
        )
    return complete


def train(context: RunContext, recorder: EpochRecorder, start: Position) -> None:
    """Trains until the last step, or until the run is asked to stop.

    Args:
      context: the run.
      recorder: recorder of finished epochs.
      start: position from which training starts.

    Raises:
      UsageError: if no checkpoint can be written, or training diverges or, if the
        config says so, collapses.
    """
    context.checkpoints.check_writable(start.state)
    _announce(context, start)
    bar = tqdm(
        total=context.last_step * context.config.batch_size,
        initial=start.steps_done * context.config.batch_size,
        unit=" images",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not (is_terminal(sys.stderr) and parallel.is_first_process()),
    )
    with bar:
        end = train_epochs(context, recorder, start, bar)
    # After the bar is closed, because closing draws it once more.
    if end.steps_done < context.last_step:
        _save_early(context, end)
    else:
        _finish(context, recorder, end)


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
        _say(describe(recorder.history.rows[-1], context.epochs), write=tqdm.write)
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
      on_first_step: called after the first step was dispatched, which is not timed
        then, because it includes the compilation.

    Returns:
      The position and what was measured.
    """
    state, done = position
    start, timed = time.perf_counter(), 0
    metrics: list[Metrics] = []
    running: deque[parallel.StepResult] = deque()
    stop_requested = False
    batches = context.feed.epoch(epoch, first=done - epoch * context.steps_per_epoch)
    for batch in itertools.islice(batches, context.last_step - done):
        result = context.step(
            state, batch, context.feed.resident, stop_requested=context.stop.is_set
        )
        state = result.state
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


def finish_step(
    context: RunContext, result: parallel.StepResult, step: int, bar: tqdm
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
    if step % _STEPS_PER_REPORT == 0:
        bar.set_postfix(loss=f"{float(metrics['loss']):.3f}", refresh=False)
    bar.update(context.config.batch_size)
    return bool(result.stop_requested)


def _on_first_step(context: RunContext) -> None:
    """Writes the machine's description and the figure of the views."""
    context.stop.ends_at_once = False
    if not parallel.is_first_process():
        return
    images, views = context.dataset.pretrain.images, context.step_context.views
    attempt(
        lambda: save_machine(context.workdir),
        failure=f"{layout.MACHINE_FILE} was not written",
        write=tqdm.write,
    )
    attempt(
        lambda: draw_views(context.figures, images, views),
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
        _say(f"Warning: {explanation}", write=tqdm.write)


def _announce(context: RunContext, start: Position) -> None:
    config, dataset = context.config, context.dataset
    parameters = sum(leaf.size for leaf in jax.tree.leaves(start.state.params))
    _say(
        f"Pretraining {config.preset} on {len(dataset.pretrain.images):,} unlabelled "
        f"images of {config.data.name}: ResNet-18 of width {config.model.width} "
        f"({parameters / 1e6:.1f} M parameters with heads),\n"
        f"{config.epochs} epochs of {context.steps_per_epoch} steps, batch "
        f"{config.batch_size}, on {parallel.device_count()} "
        f"{jax.default_backend()} device(s). Run folder: {context.workdir}.\n"
        f"{context.feed.description}\n{describe_columns(dataset.evaluation_name)}"
    )
    if start.steps_done:
        _say(f"Resuming after step {start.steps_done:,} of {context.last_step:,}.")
    _say("Compiling the training step; this takes up to a minute ...")


def _save_early(context: RunContext, end: Position) -> None:
    """Saves the state of a run that was asked to stop before its last step."""
    context.checkpoints.save(end.state)
    context.checkpoints.close()
    context.stop.has_stopped_run = True
    _say(
        f"Stopped after step {end.steps_done:,} of {context.last_step:,}; the state "
        "is saved. Repeat the command to resume."
    )


def _finish(context: RunContext, recorder: EpochRecorder, end: Position) -> None:
    """Draws the figures of a finished run and says what to do next."""
    context.checkpoints.close()
    recorder.draw_figures()
    recorder.write_figures(end.steps_done)
    workdir = context.workdir
    _say(
        f"\nCheckpoints: {workdir / layout.CHECKPOINTS_FOLDER}\n"
        f"Metrics: {workdir / layout.METRICS_FILE}\n"
        f"Figures: {context.figures}\n"
        f"Next: {command('evaluate', f'--workdir={workdir}')}"
    )


def _say(text: str, *, write: Callable[[str], None] = print) -> None:
    """Prints, in the first process only."""
    if parallel.is_first_process():
        say(text, write=write)
