"""Pretraining: opens a run, trains it and closes it."""

import os
from contextlib import ExitStack
from pathlib import Path

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from isojax import data_parallel, processes
from isojax.data import Dataset
from isojax.data.dataset import check_dataset
from isojax.fields import ARRAYS, data_name
from isojax.invocation import command
from isojax.models import check_backbone
from isojax.progress import image_bar
from isojax.runs import layout
from isojax.runs.backbone_text import describe_backbone
from isojax.runs.bucket import is_url
from isojax.runs.folder import open_run_folder
from isojax.runs.mirror import check_owner, local_folder
from isojax.stopping import StopRequest
from isojax.training.agreement import check_agreement
from isojax.training.assembly import (
    check_data,
    first_state,
    last_step,
    steps_per_epoch,
    with_normalization,
)
from isojax.training.backbone import with_own_backbone
from isojax.training.config import check_config
from isojax.training.epoch_recorder import (
    EpochRecorder,
    draw_figures,
    open_history,
    open_metric_writers,
)
from isojax.training.epochs import train_epochs
from isojax.training.fork import fork_run
from isojax.training.metric_writers import check_packages, read_options
from isojax.training.monitor import describe_columns
from isojax.training.run_context import (
    Position,
    RunContext,
    open_run_context,
    starting_position,
)
from isojax.training.run_data import load_run_data


def pretrain(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    dataset: Dataset | None = None,
    backbone: nn.Module | None = None,
    data_dir: str | os.PathLike | None = None,
    fork_from: str | os.PathLike | None = None,
    stop: StopRequest | None = None,
) -> Path | str:
    """Pretrains an encoder, or resumes an interrupted run.

    Args:
      config: the run's configuration, with the fields of `configs/base.py`.
      workdir: the run's folder: a local path or a URL such as gs://bucket/run.
      dataset: the images, such as those of `isojax.data.from_arrays`, instead of those
        that `config.data` names. Pass the same images to resume the run. Mean and
        standard deviation are computed from them, unless `config.data.name` is
        "arrays".
      backbone: module with `__call__(images, train)` that maps normalised images (n, h,
        w, c) to float32 features (n, features); it replaces config.model.backbone. Its
        variables are `params` and, optionally, `batch_stats`. If it has a field
        `axis_name`, the name of the mapped axis of the devices is stored there.
      data_dir: folder of the data sets, as in `load_dataset`.
      fork_from: path or URL of another run. A new run starts from its newest
        checkpoint.
      stop: request to stop. Once it `is_set`, the run finishes the steps already
        dispatched, saves, sets `has_stopped_run` and returns.

    Returns:
      `workdir`; a URL is a string. The folder contains config, metrics, spectrum,
      checkpoints and figures.

    Raises:
      UsageError: if the config, the data set or the backbone is invalid, the folder
        contains something else or a run on other images, or the numbers diverge.
    """
    if dataset is not None:
        check_dataset(dataset)
    config = with_own_backbone(config, backbone)
    check_config(config)
    processes.in_first_process(lambda: check_packages(read_options(config)))
    images, described = load_run_data(config, dataset, data_dir=data_dir)
    check_agreement(config, images, workdir=workdir, fork_from=fork_from)
    config = _normalize_by_own_images(described, images)
    check_data(config, images)
    if backbone is not None:
        check_backbone(
            backbone,
            images.pretrain.images.shape[1:],
            devices=data_parallel.device_count(),
        )
    stop = stop or StopRequest()
    with ExitStack() as held:
        folder = _open_workdir(workdir, stop, held)
        if fork_from is not None:
            fork_run(
                held.enter_context(local_folder(fork_from)),
                folder,
                config,
                like=jax.eval_shape(
                    lambda: first_state(config, images, backbone=backbone)
                ),
                steps_per_epoch=steps_per_epoch(config, images),
                last_step=last_step(config, images),
            )
        processes.in_first_process(
            lambda: held.enter_context(open_run_folder(folder, config))
        )
        _train_in_folder(
            open_run_context(config, images, folder, stop, backbone=backbone)
        )
    return os.fspath(workdir) if is_url(workdir) else Path(workdir)


def _open_workdir(
    workdir: str | os.PathLike, stop: StopRequest, held: ExitStack
) -> Path:
    """Returns a local path for the run's folder; the first process takes its lease."""
    opened: list[Path] = []

    def open_folder(trains: bool) -> None:
        folder = local_folder(
            workdir, trains=trains, on_loss=lambda: setattr(stop, "is_set", True)
        )
        opened.append(held.enter_context(folder))

    processes.in_first_process(lambda: open_folder(trains=True))
    if not opened:
        open_folder(trains=False)
    return opened[0]


def _train_in_folder(context: RunContext) -> None:
    """Trains a run from its newest checkpoint, unless it is finished."""
    start = starting_position(context)
    history = open_history(context, start)
    if start.steps_done >= context.last_step:
        draw_figures(context, history)
        processes.print_once(
            f"The run in {context.workdir} is finished. To start a new run, choose "
            "another --workdir."
        )
        return
    with (
        context.checkpoints,
        open_metric_writers(context, history, start) as writers,
    ):
        train(context, EpochRecorder(context, history, writers), start)


def _normalize_by_own_images(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    complete = with_normalization(config, dataset)
    if complete is not config:
        data = complete.data
        processes.print_once(
            f"Normalising {data_name(data)} with mean {data.mean} and standard "
            f"deviation {data.std}, computed from its training images."
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
    bar = image_bar(
        total=context.last_step * context.config.batch_size,
        initial=start.steps_done * context.config.batch_size,
        shown=processes.is_first_process(),
    )
    with bar:
        end = train_epochs(context, recorder, start, bar)
    # After the bar is closed, because closing draws it once more.
    if end.steps_done < context.last_step:
        _save_early(context, end)
    else:
        _finish(context, recorder, end)


def _announce(context: RunContext, start: Position) -> None:
    config, dataset = context.config, context.dataset
    evaluation = dataset.evaluation.labels
    is_labelled = len(evaluation) and (evaluation >= 0).all()
    evaluation_name = dataset.evaluation_name if is_labelled else None
    parameters = sum(leaf.size for leaf in jax.tree.leaves(start.state.params))
    processes.print_once(
        f"Pretraining {config.preset} on {len(dataset.pretrain.images):,} unlabelled "
        f"images of {data_name(config.data)}: {describe_backbone(config.model)} "
        f"({parameters / 1e6:.1f} M parameters with heads),\n"
        f"{config.epochs} epochs of {context.steps_per_epoch} steps, batch "
        f"{config.batch_size}, on {data_parallel.device_count()} "
        f"{jax.default_backend()} device(s). Run folder: {context.workdir}.\n"
        f"{context.feed.description}\n{describe_columns(evaluation_name)}"
    )
    if start.steps_done:
        processes.print_once(
            f"Resuming after step {start.steps_done:,} of {context.last_step:,}."
        )
    processes.print_once("Compiling the training step; this takes up to a minute ...")


def _save_early(context: RunContext, end: Position) -> None:
    """Saves the state of a run that was asked to stop before its last step."""
    processes.in_first_process(lambda: check_owner(context.workdir))
    context.checkpoints.save(end.state)
    context.checkpoints.close()
    context.stop.has_stopped_run = True
    processes.print_once(
        f"Stopped after step {end.steps_done:,} of {context.last_step:,}; the state "
        "is saved. Repeat the command to resume."
    )


def _finish(context: RunContext, recorder: EpochRecorder, end: Position) -> None:
    """Draws the figures of a finished run and says what to do next."""
    context.checkpoints.close()
    recorder.draw_figures()
    recorder.write_figures(end.steps_done)
    workdir = context.workdir
    processes.print_once(
        f"\nCheckpoints: {workdir / layout.CHECKPOINTS_FOLDER}\n"
        f"Metrics: {workdir / layout.METRICS_FILE}\n"
        f"Figures: {context.figures}\n"
        f"Next: {_evaluation_of(context)}"
    )


def _evaluation_of(context: RunContext) -> str:
    """Returns what the user calls or types to evaluate the run."""
    if context.config.data.name == ARRAYS:
        return f"isojax.evaluation.evaluate_run({str(context.workdir)!r}, dataset=...)"
    return command("evaluate", f"--workdir={context.workdir}")
