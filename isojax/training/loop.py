"""The loop around the training step."""

import itertools
import os
import sys
import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from isojax import parallel
from isojax.data import Dataset, load_dataset
from isojax.errors import UsageError
from isojax.invocation import command
from isojax.output import attempt, is_terminal, say
from isojax.runs import layout
from isojax.runs.collapse import explain_collapse, is_collapsed
from isojax.runs.folder import open_run_folder
from isojax.runs.history import History
from isojax.runs.machine import save_machine
from isojax.stopping import StopRequest
from isojax.training.agreement import check_agreement
from isojax.training.assembly import (
    build_step_context,
    check_data,
    first_state,
    last_step,
    steps_per_epoch,
    with_normalization,
)
from isojax.training.checkpoint import Checkpoints
from isojax.training.config import check_config
from isojax.training.feeding import Feed, with_resident_images
from isojax.training.fork import fork_run
from isojax.training.health import check_finite
from isojax.training.metric_writers import (
    MetricWriters,
    check_packages,
    open_writers,
    read_options,
)
from isojax.training.monitor import (
    alignment_metrics,
    describe,
    describe_columns,
    make_evaluation,
    spectrum_metrics,
)
from isojax.training.sample_views import draw_views
from isojax.training.settings import image_source
from isojax.training.step import Metrics, train_step

_STEPS_PER_REPORT = 10
# Dispatched beyond the one that the host waits for: the device never waits for it.
_STEPS_AHEAD = 1
_LOGGED_EVERY_STEP = ("loss", "learning_rate", "gradient_norm")


def pretrain(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    fork_from: str | os.PathLike | None = None,
    stop: StopRequest | None = None,
) -> Path:
    """Pretrains an encoder, or goes on with a run that was interrupted.

    Args:
      config: of the run, as `configs/base.py` describes it.
      workdir: the run's folder.
      data_dir: folder of the data sets, as in `load_dataset`.
      fork_from: folder of another run, from whose newest checkpoint a new one starts.
      stop: a request to stop. Once it `is_set`, the run finishes the steps already
        dispatched, saves, sets `has_stopped_run` and returns.

    Returns:
      The folder, with config, metrics, spectrum, checkpoints and figures in it.

    Raises:
      UsageError: if the config cannot be run, the folder holds something else, or the
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
        run = _Run(config, dataset, workdir, stop or StopRequest())
        if run.is_finished:
            run.draw_figures()
            _say(
                f"The run in {workdir} is finished; name another folder for a new one."
            )
        else:
            with run.checkpoints, run.open_writers():
                run.train()
    return workdir


def _normalize_by_own_images(config: ConfigDict, dataset: Dataset) -> ConfigDict:
    complete = with_normalization(config, dataset)
    if complete is not config:
        data = complete.data
        _say(
            f"Normalising {data.name} by mean {data.mean} and standard deviation "
            f"{data.std}, computed from its training images."
        )
    return complete


class _Run:
    """Holds the objects that the training loop uses."""

    def __init__(
        self, config: ConfigDict, dataset: Dataset, workdir: Path, stop: StopRequest
    ):
        self.config = config
        self.dataset = dataset
        self.workdir = workdir
        self.stop = stop
        self.has_trained = False
        self.options = read_options(config)
        self.steps_per_epoch = steps_per_epoch(config, dataset)
        self.last_step = last_step(config, dataset)
        context = build_step_context(config, dataset)
        self.views = context.views
        self.step = parallel.MappedStep(
            with_resident_images(partial(train_step, context))
        )
        self.evaluate = make_evaluation(
            context.network, mean=context.views.mean, std=context.views.std
        )
        self.feed = Feed(
            dataset.pretrain,
            batch_size=config.batch_size,
            seed=config.seed,
            place=config.data.feed,
        )
        state = first_state(config, dataset)
        self.checkpoints = Checkpoints(
            workdir,
            keep_last=config.checkpoint.keep_last,
            keep_every_steps=config.checkpoint.keep_every_epochs * self.steps_per_epoch,
        )
        if self.checkpoints.agreed_steps():
            state = self.checkpoints.restore(state, set_aside=True)
        self.steps_done = int(state.step)
        self.state = parallel.replicate(state)
        self.history = History(
            workdir,
            # A finished record is whole, even where it ends inside an epoch.
            epochs=None if self.is_finished else self._epochs_done,
            correlation=np.asarray(state.correlation, np.float64),
            writes=parallel.is_first_process(),
        )

    @property
    def is_finished(self) -> bool:
        return self.steps_done >= self.last_step

    @property
    def _epochs_done(self) -> int:
        return self.steps_done // self.steps_per_epoch

    def open_writers(self) -> MetricWriters:
        """What metrics go to beside the folder's own files; the first process's."""
        if parallel.is_first_process():
            self.writers = open_writers(
                self.workdir,
                self.config.to_dict(),
                self.options,
                steps_done=self.steps_done,
                past=zip(self.history.rows, self.history.eigenvalues, strict=True),
            )
        else:
            self.writers = MetricWriters({})
        return self.writers

    def train(self) -> None:
        """Trains up to the last step, or until the run is asked to stop."""
        self.checkpoints.check_writable(self.state)
        self._announce()
        _say("Compiling the training step, once, up to a minute ...")
        bar = tqdm(
            total=self.last_step * self.config.batch_size,
            initial=self.steps_done * self.config.batch_size,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not (is_terminal(sys.stderr) and parallel.is_first_process()),
        )
        with bar:
            is_complete = self._train_epochs(bar)
        if not is_complete:  # after the bar, which closing draws once more
            return self._end_early()
        self.checkpoints.close()
        self.draw_figures()
        self.writers.write_figures(self.steps_done, self.workdir / "figures")
        _say(
            f"\nThe encoder is in {self.workdir}/checkpoints, the metrics in "
            f"{self.workdir}/metrics.jsonl,\nthe pictures in {self.workdir}/figures. "
            f"Next: {command('evaluate', f'--workdir={self.workdir}')}"
        )

    def _train_epochs(self, bar: tqdm) -> bool:
        """Trains the remaining epochs; returns False if asked to stop before."""
        epochs = -(-self.last_step // self.steps_per_epoch)
        for epoch in range(self._epochs_done, epochs):
            if not self._train_epoch(epoch, bar):
                return False
            _say(describe(self.history.rows[-1], epochs), write=tqdm.write)
            is_last = epoch + 1 == epochs
            if is_last or (epoch + 1) % self.config.checkpoint_every_epochs == 0:
                self.checkpoints.save(self.state)
            self._look_for_collapse()
        return True

    def draw_figures(self) -> None:
        """Draws the figures of the epochs so far."""
        if parallel.is_first_process() and self.history.rows:
            attempt(self._save_figures, failure="the figures were not drawn")

    def _save_figures(self) -> None:
        from isojax.reporting.figures import save_figures  # with Matplotlib

        save_figures(
            self.workdir / "figures",
            self.history,
            evaluation_name=self.dataset.evaluation_name,
        )

    def _announce(self) -> None:
        config = self.config
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        _say(
            f"Pretraining {config.preset} on {len(self.dataset.pretrain.images):,} "
            f"images of {config.data.name}, without labels: ResNet-18 of width "
            f"{config.model.width} ({parameters / 1e6:.1f} M parameters with heads),\n"
            f"{config.epochs} epochs of {self.steps_per_epoch} steps, batch "
            f"{config.batch_size}, on {parallel.device_count()} "
            f"{jax.default_backend()} device(s). Everything goes to {self.workdir}.\n"
            f"{self.feed.description}\n{describe_columns(self.dataset.evaluation_name)}"
        )
        if self.steps_done:
            _say(f"Going on after step {self.steps_done:,} of {self.last_step:,}.")

    def _train_epoch(self, epoch: int, bar: tqdm) -> bool:
        """Trains the rest of an epoch; returns whether to continue with the next."""
        start, timed = time.perf_counter(), 0
        steps: list[Metrics] = []
        running: deque[parallel.StepResult] = deque()
        shall_stop = False
        first = self.steps_done - epoch * self.steps_per_epoch
        batches = self.feed.epoch(epoch, first=first)
        for batch in itertools.islice(batches, self.last_step - self.steps_done):
            result = self.step(
                self.state, batch, self.feed.resident, stop_requested=self.stop.is_set
            )
            self.state = result.state
            if not self.has_trained:
                self.has_trained, self.stop.ends_at_once = True, False
                self._record_start()  # while the devices work
                start = time.perf_counter()  # compiling does not count
            else:
                timed += 1
            steps.append(result.report.metrics)
            running.append(result)
            if len(running) > _STEPS_AHEAD:
                shall_stop = self._finish_step(running.popleft(), bar)
            if shall_stop:
                break
        while running:
            shall_stop |= self._finish_step(running.popleft(), bar)
        if self.steps_done % self.steps_per_epoch:  # its checkpoint is amid an epoch
            saved = [*self.checkpoints.steps(), self.steps_done]
            self.history.keep_modes({step // self.steps_per_epoch for step in saved})
        if shall_stop and self.steps_done < min(
            self.last_step, (epoch + 1) * self.steps_per_epoch
        ):
            self._write_steps(jax.device_get(steps))
            return False
        seconds = time.perf_counter() - start
        self._record(epoch, jax.device_get(steps), timed / seconds)
        return not shall_stop or self.steps_done == self.last_step

    def _record_start(self) -> None:
        """Writes the machine's description and the picture of the views."""
        if not parallel.is_first_process():
            return
        images = self.dataset.pretrain.images
        attempt(
            lambda: save_machine(self.workdir),
            failure="machine.json was not written",
            write=tqdm.write,
        )
        attempt(
            lambda: draw_views(self.workdir / "figures", images, self.views),
            failure="figures/views.png was not drawn",
            write=tqdm.write,
        )

    def _finish_step(self, result: parallel.StepResult, bar: tqdm) -> bool:
        """Waits for a step; returns whether any process was asked to stop."""
        self.steps_done += 1
        metrics = result.report.metrics
        if not_finite := int(result.report.not_finite):
            self.checkpoints.wait()
            saved = self.checkpoints.steps()
            check_finite(
                not_finite,
                jax.device_get(metrics),
                step=self.steps_done,
                workdir=self.workdir,
                last_checkpoint=saved[-1] if saved else None,
            )
        if self.steps_done % _STEPS_PER_REPORT == 0:
            bar.set_postfix(loss=f"{float(metrics['loss']):.3f}", refresh=False)
        bar.update(self.config.batch_size)
        return bool(result.stop_requested)

    def _record(self, epoch: int, steps: list[dict], steps_per_second: float) -> None:
        """Adds a finished epoch to the history."""
        row = {
            "step": self.steps_done,
            "epoch": epoch + 1,
            **{
                f"train/{name}": float(np.mean([metrics[name] for metrics in steps]))
                for name in sorted(steps[0])
            },
        }
        if steps_per_second:  # none where the epoch's only step has compiled
            row[layout.IMAGES_PER_SECOND] = steps_per_second * self.config.batch_size
        correlation = np.asarray(self.state.correlation, np.float64)
        eigenvalues, eigenvectors = np.linalg.eigh(correlation)
        row |= spectrum_metrics(eigenvalues)
        row |= alignment_metrics(self.state.params, correlation)
        row |= self.evaluate(self.state, self.dataset.evaluation)
        self.history.append(
            row, eigenvalues, eigenvectors if self.options.tracked_modes else None
        )
        self._write_steps(steps)
        self.writers.write_epoch(row, eigenvalues)

    def _write_steps(self, steps: list[dict]) -> None:
        """Passes on what is logged of the steps just done."""
        columns = {
            f"step/{name}": np.array([metrics[name] for metrics in steps])
            for name in _LOGGED_EVERY_STEP
        }
        self.writers.write_steps(self.steps_done - len(steps) + 1, columns)

    def _look_for_collapse(self) -> None:
        """Warns, once, of an epoch that began and ended collapsed, or ends the run."""
        dim = self.config.model.projection_dim
        recent = [is_collapsed(row, dim) for row in self.history.rows[-3:]]
        if recent[-2:] != [True, True]:
            return
        explanation = explain_collapse(self.history.rows[-1], self.config.method)
        if self.config.on_collapse == "stop":
            self.checkpoints.save(self.state)
            self.checkpoints.close()
            self.draw_figures()
            raise UsageError(f"{explanation} The run is stopped, its state saved.")
        if recent != [True, True, True]:
            _say(f"Warning: {explanation}", write=tqdm.write)

    def _end_early(self) -> None:
        """Saves, as the run was asked to stop before its last step."""
        self.checkpoints.save(self.state)
        self.checkpoints.close()
        self.stop.has_stopped_run = True
        _say(
            f"Stopped after step {self.steps_done:,} of {self.last_step:,}; the state "
            "is saved. Repeat the command to resume."
        )


def _say(text: str, *, write=print) -> None:
    """Prints, in the first process only."""
    if parallel.is_first_process():
        say(text, write=write)
