"""The loop around the training step."""

import itertools
import os
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from isojax import parallel
from isojax.data import Dataset, load_dataset
from isojax.errors import UsageError
from isojax.models import build_network
from isojax.reporting import History, save_figures, save_views
from isojax.training.agreement import check_agreement
from isojax.training.checkpoint import Checkpoints
from isojax.training.config import check_config
from isojax.training.feeding import Feed, with_resident_images
from isojax.training.fork import fork_run
from isojax.training.monitor import describe, make_evaluation, spectrum_metrics
from isojax.training.optimizer import make_optimizer
from isojax.training.state import TrainState, init_state
from isojax.training.step import make_train_step, make_views
from isojax.training.workdir import open_workdir

_SHOWN_IMAGES, _SHOWN_STEPS = 8, 4
_STEPS_PER_REPORT = 10


def pretrain(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    fork_from: str | os.PathLike | None = None,
) -> Path:
    """Pretrains an encoder, or goes on with a run that was interrupted.

    Args:
      config: of the run, as `configs/base.py` describes it.
      workdir: the run's folder.
      data_dir: folder of the data sets, as in `load_dataset`.
      fork_from: folder of another run, from whose newest checkpoint a new one starts.

    Returns:
      The folder, with config, metrics, spectrum, checkpoints and figures in it.

    Raises:
      UsageError: if the config cannot be run or the folder holds something else.
    """
    check_config(config)
    dataset = load_dataset(config.data, data_dir=data_dir)
    _check_data(config, dataset)
    check_agreement(config, dataset)
    if fork_from is not None:
        fork_run(
            fork_from,
            workdir,
            config,
            like=jax.eval_shape(lambda: _first_state(config, dataset)),
            steps_per_epoch=_steps_per_epoch(config, dataset),
        )
    with open_workdir(workdir, config) as workdir:
        run = _Run(config, dataset, workdir)
        if run.first_step == run.last_step:
            print(
                f"The run in {workdir} is finished; name another folder for a new one."
            )
        else:
            with run.checkpoints:
                run.train()
    return workdir


def _steps_per_epoch(config: ConfigDict, dataset: Dataset) -> int:
    return len(dataset.pretrain.labels) // config.batch_size


def _build(config: ConfigDict, dataset: Dataset):
    """The network, its optimiser and the learning rate of a run."""
    network = build_network(
        config.model, predictor=config.method.predictor, axis_name=parallel.AXIS
    )
    return network, *make_optimizer(
        config.optimizer,
        steps_per_epoch=_steps_per_epoch(config, dataset),
        epochs=config.epochs,
    )


def _first_state(config: ConfigDict, dataset: Dataset) -> TrainState:
    network, optimizer, _ = _build(config, dataset)
    return init_state(
        network,
        optimizer,
        seed=config.seed,
        image_shape=dataset.pretrain.images.shape[1:],
        num_classes=dataset.num_classes,
        ema=config.method.target == "ema",
    )


def _check_data(config: ConfigDict, dataset: Dataset) -> None:
    images = dataset.pretrain.images
    if config.batch_size > len(images):
        raise UsageError(
            f"config.batch_size={config.batch_size} is more than the {len(images)} "
            f"training images; set it to {len(images)} or less"
        )
    if images.shape[-1] != len(config.data.mean):
        raise UsageError(
            f"the images of {config.data.name} have shape {images.shape[1:]}, but "
            f"config.data.mean has {len(config.data.mean)} channels; give one value of "
            "mean and std a channel"
        )
    parallel.check_batch_size(config.batch_size)


class _Run:
    """What the loop needs at hand; made once."""

    def __init__(self, config: ConfigDict, dataset: Dataset, workdir: Path):
        self.config = config
        self.dataset = dataset
        self.workdir = workdir
        self.steps_per_epoch = _steps_per_epoch(config, dataset)
        self.last_step = self.steps_per_epoch * config.epochs
        if config.steps:
            self.last_step = min(self.last_step, config.steps)
        network, optimizer, learning_rate = _build(config, dataset)
        self.step = parallel.map_step(
            with_resident_images(
                make_train_step(
                    network,
                    optimizer,
                    learning_rate,
                    config,
                    total_steps=self.steps_per_epoch * config.epochs,
                    axis_name=parallel.AXIS,
                )
            )
        )
        self.evaluate = make_evaluation(network, config)
        self.feed = Feed(
            dataset.pretrain,
            batch_size=config.batch_size,
            seed=config.seed,
            place=config.data.feed,
        )
        self.state = _first_state(config, dataset)
        self.checkpoints = Checkpoints(
            workdir,
            keep_last=config.checkpoint.keep_last,
            keep_every_steps=config.checkpoint.keep_every_epochs * self.steps_per_epoch,
        )
        if self.checkpoints.steps():
            self.state = self.checkpoints.restore(self.state, set_aside=True)
        self.state = parallel.replicate(self.state)
        self.first_step = int(self.state.step)
        self.history = History(workdir, epochs=self.first_step // self.steps_per_epoch)

    def train(self) -> None:
        config, figures = self.config, self.workdir / "figures"
        self._announce()
        self._draw_views(figures)
        print("Compiling the training step, once, up to a minute ...", flush=True)
        bar = tqdm(
            total=self.last_step * config.batch_size,
            initial=self.first_step * config.batch_size,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        epochs = -(-self.last_step // self.steps_per_epoch)
        with bar:
            for epoch in range(self.first_step // self.steps_per_epoch, epochs):
                row = self._train_epoch(epoch, bar)
                tqdm.write(describe(row, epochs, self.dataset.evaluation_name))
                sys.stdout.flush()
                last = epoch + 1 == epochs
                if last or (epoch + 1) % config.checkpoint_every_epochs == 0:
                    self.checkpoints.save(self.state)
        self.checkpoints.close()
        save_figures(
            figures, self.history, evaluation_name=self.dataset.evaluation_name
        )
        print(
            f"\nThe encoder is in {self.workdir}/checkpoints, the metrics in "
            f"{self.workdir}/metrics.jsonl,\nthe pictures in {figures}. Next: "
            f"python eval_linear.py --workdir={self.workdir}"
        )

    def _announce(self) -> None:
        config = self.config
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        print(
            f"Pretraining {config.preset} on {len(self.dataset.pretrain.images):,} "
            f"images of {config.data.name}, without labels: ResNet-18 of width "
            f"{config.model.width} ({parameters / 1e6:.1f} M parameters with heads),\n"
            f"{config.epochs} epochs of {self.steps_per_epoch} steps, batch "
            f"{config.batch_size}, on {parallel.device_count()} "
            f"{jax.default_backend()} device(s). Everything goes to {self.workdir}.\n"
            f"{self.feed.description}"
        )
        if self.first_step:
            print(f"Going on after step {self.first_step:,} of {self.last_step:,}.")

    def _train_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        start = time.perf_counter()
        steps = []
        step = int(self.state.step)
        batches = self.feed.epoch(epoch, first=step - epoch * self.steps_per_epoch)
        for batch in itertools.islice(batches, self.last_step - step):
            self.state, metrics = self.step(self.state, batch, self.feed.resident)
            steps.append(metrics)
            if len(steps) % _STEPS_PER_REPORT == 0:
                # Waits for the step, so that the bar cannot run ahead of the device.
                bar.set_postfix(loss=f"{float(metrics['loss']):.3f}", refresh=False)
            bar.update(self.config.batch_size)
        steps = jax.device_get(steps)
        seconds = time.perf_counter() - start
        row = {
            "step": int(self.state.step),
            "epoch": epoch + 1,
            **{
                f"train/{name}": float(np.mean([metrics[name] for metrics in steps]))
                for name in steps[0]
            },
            "train/images_per_second": len(steps) * self.config.batch_size / seconds,
        }
        if not np.isfinite(row["train/loss"]):
            raise UsageError(
                f"the loss diverged in epoch {epoch + 1}; earlier checkpoints stay; "
                "lower config.optimizer.learning_rate and choose a new workdir"
            )
        correlation = np.asarray(self.state.correlation, np.float64)
        eigenvalues = np.linalg.eigvalsh(correlation)
        row |= spectrum_metrics(eigenvalues) | self.evaluate(
            self.state, self.dataset.evaluation
        )
        self.history.append(row, eigenvalues)
        return row

    def _draw_views(self, figures: Path) -> None:
        figures.mkdir(exist_ok=True)
        images = self.dataset.pretrain.images
        indices = np.linspace(0, len(images) - 1, _SHOWN_IMAGES).astype(np.int32)
        batch = {"images": images[indices], "indices": indices}
        draw = jax.jit(partial(make_views, config=self.config))
        mean, std = np.array(self.config.data.mean), np.array(self.config.data.std)
        views = [
            np.asarray(view) * std + mean
            for step in range(_SHOWN_STEPS)
            for view in draw(jax.random.fold_in(self.state.key, step), batch)
        ]
        save_views(figures / "views.png", batch["images"], views)
