"""A new run that starts from another run's checkpoint."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from isojax import parallel
from isojax.errors import UsageError
from isojax.output import say
from isojax.runs import layout
from isojax.runs.config_file import load_config, load_forked_from, save_config
from isojax.runs.folder import cannot_be_written
from isojax.runs.history import FILES as HISTORY_FILES
from isojax.runs.history import History
from isojax.training.checkpoint import Checkpoints
from isojax.training.leaves import host_arrays
from isojax.training.state import TARGET_PARTS, TrainState
from isojax.training.step_folder import write_step


def fork_run(
    source: str | os.PathLike,
    workdir: str | os.PathLike,
    config: ConfigDict,
    *,
    like: TrainState,
    steps_per_epoch: int,
    last_step: int,
) -> None:
    """Makes a run's folder from the newest checkpoint of another run.

    Everything carries over: parameters, statistics, target, correlation, probe,
    optimiser's state, key and step, and the record of the epochs so far. A target that
    the other run lacks starts at its parameters. A fork that was made already is left
    as it is, so that the same command goes on with it.

    Args:
      source: the other run's folder, which may be training.
      workdir: the new one.
      config: of the new run.
      like: shapes of the new run's state.
      steps_per_epoch: of the new run.
      last_step: at which the new run ends.

    Raises:
      UsageError: if there is no such run, its model or its steps an epoch are others,
        it has trained as long as the new one shall, or `workdir` is something else.
    """
    source, workdir = Path(source).absolute(), Path(workdir)
    if (workdir / layout.CONFIG_FILE).exists():
        if load_forked_from(workdir).get("workdir") != str(source):
            raise UsageError(
                f"--workdir={workdir} holds a run that is no fork of {source}; name a "
                "new folder, or leave out --fork_from to go on with it"
            )
        return
    there = load_config(source)
    state = _carry_over(source, like, had_target=there.method.target == "ema")
    step = int(state.step)
    _check_schedule(source, there, step, steps_per_epoch, last_step)
    parallel.in_first_process(
        partial(_write_folder, source, workdir, config, state, step)
    )


def _carry_over(source: Path, like: TrainState, *, had_target: bool) -> TrainState:
    def part_of(params):
        return {part: params[part] for part in TARGET_PARTS}

    has_target = bool(like.target_params)
    like = like.replace(target_params=part_of(like.params) if had_target else {})
    checkpoints = Checkpoints(source)
    state = checkpoints.restore(like)
    checkpoints.close()
    if has_target and not had_target:
        return state.replace(
            target_params=jax.tree.map(jnp.copy, part_of(state.params))
        )
    return state if has_target else state.replace(target_params={})


def _check_schedule(
    source: Path, there: ConfigDict, step: int, steps_per_epoch: int, last_step: int
) -> None:
    history = History(source, writes=False)
    steps = history.steps_per_epoch if history.rows else steps_per_epoch
    # The first epoch is whole, unless a number of steps has cut the run.
    if steps not in (steps_per_epoch, there.get("steps", 0)):
        raise UsageError(
            f"an epoch of the run in {source} has {steps} steps, one of this "
            f"config has {steps_per_epoch}; set config.batch_size as in "
            f"{source / layout.CONFIG_FILE}"
        )
    if step >= last_step:
        raise UsageError(
            f"the run in {source} has {step} steps already and this config ends at "
            f"step {last_step}; raise config.epochs or config.steps"
        )


def _write_folder(
    source: Path, workdir: Path, config: ConfigDict, state: TrainState, step: int
) -> None:
    """Writes everything beside `workdir`, then puts it in its place as a whole."""
    try:
        workdir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=workdir.parent, prefix=f".{workdir.name}.", ignore_cleanup_errors=True
        ) as passing:
            folder = Path(passing) / "run"
            folder.mkdir()
            save_config(folder, config, {"workdir": str(source), "step": step})
            for name in HISTORY_FILES:
                if (source / name).exists():
                    shutil.copy(source / name, folder / name)
            (folder / layout.CHECKPOINTS_FOLDER).mkdir()
            write_step(
                folder / layout.CHECKPOINTS_FOLDER / str(step), host_arrays(state)
            )
            folder.rename(workdir)
    except (OSError, ValueError) as error:  # TensorStore raises ValueError
        raise cannot_be_written(workdir, error) from error
    say(f"Forked from step {step} of {source}.")
