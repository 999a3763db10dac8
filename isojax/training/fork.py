"""A new run that starts from another run's checkpoint."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from isojax import processes
from isojax.errors import UsageError
from isojax.output import print_line
from isojax.runs import layout
from isojax.runs.config_file import load_config, load_forked_from, save_config
from isojax.runs.folder import cannot_be_written
from isojax.runs.history import FILES as HISTORY_FILES
from isojax.runs.history import History
from isojax.runs.mirror import find_mirror, original_path
from isojax.training.bucket_steps import BucketSteps
from isojax.training.checkpoint import Checkpoints
from isojax.training.leaves import host_arrays
from isojax.training.settings import method_settings
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
    """Creates a run's folder from the newest checkpoint of another run.

    The whole state is copied, and the history of the epochs so far. If the other run
    has no target network, the target starts at its parameters. An existing fork of the
    same run is not changed, so that the same command resumes it.

    Args:
      source: folder of the other run, which may still be training. This and `workdir`
        may be folders of mirrors.
      workdir: folder of the new run.
      config: configuration of the new run.
      like: shapes of the new run's state.
      steps_per_epoch: steps per epoch of the new run.
      last_step: step at which the new run ends.

    Raises:
      UsageError: if there is no such run, its model or its steps per epoch differ, it
        has already reached `last_step`, or `workdir` contains something else.
    """
    source, workdir = Path(source).absolute(), Path(workdir)
    if (workdir / layout.CONFIG_FILE).exists():
        if load_forked_from(workdir).get("workdir") != original_path(source):
            raise UsageError(
                f"--workdir={workdir} contains a run that is not a fork of {source}; "
                "choose a new folder, or leave out --fork_from to resume the run"
            )
        return
    other = load_config(source)
    had_target = method_settings(other).has_moving_target
    state = _carry_over(source, like, had_target=had_target)
    step = int(state.step)
    _check_schedule(source, other, step, steps_per_epoch, last_step)
    processes.in_first_process(
        partial(_write_folder, source, workdir, config, state, step)
    )


def _carry_over(source: Path, like: TrainState, *, had_target: bool) -> TrainState:
    def part_of(params: dict) -> dict:
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
    source: Path, other: ConfigDict, step: int, steps_per_epoch: int, last_step: int
) -> None:
    history = History(source, writes=False)
    steps = history.steps_per_epoch if history.rows else steps_per_epoch
    # The first epoch is complete, unless config.steps ended the run inside it.
    if steps not in (steps_per_epoch, other.get("steps", 0)):
        raise UsageError(
            f"an epoch of the run in {source} has {steps} steps and one of this "
            f"config has {steps_per_epoch}; set config.batch_size as in "
            f"{source / layout.CONFIG_FILE}"
        )
    if step >= last_step:
        raise UsageError(
            f"the run in {source} is at step {step} and this config ends at step "
            f"{last_step}; increase config.epochs or config.steps"
        )


def _write_folder(
    source: Path, workdir: Path, config: ConfigDict, state: TrainState, step: int
) -> None:
    """Writes the new run, which exists once its folder or its config does."""
    origin = {"workdir": original_path(source), "step": step}
    try:
        if mirror := find_mirror(workdir):
            _copy_history(source, workdir)
            steps = BucketSteps(mirror)
            if not steps.contains(step):  # by a process that was killed
                steps.prepare()
                steps.write(step, host_arrays(state))
            save_config(workdir, config, origin)
            mirror.upload()
        else:
            _write_local_folder(source, workdir, config, state, origin)
    except (OSError, ValueError) as error:  # TensorStore raises ValueError
        raise cannot_be_written(workdir, error) from error
    print_line(f"Forked from step {step} of {source}.")


def _write_local_folder(
    source: Path,
    workdir: Path,
    config: ConfigDict,
    state: TrainState,
    origin: Mapping[str, Any],
) -> None:
    """Writes the folder under a temporary name and renames it to `workdir`."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=workdir.parent, prefix=f".{workdir.name}.", ignore_cleanup_errors=True
    ) as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        save_config(folder, config, origin)
        _copy_history(source, folder)
        (folder / layout.CHECKPOINTS_FOLDER).mkdir()
        write_step(
            folder / layout.CHECKPOINTS_FOLDER / str(origin["step"]), host_arrays(state)
        )
        folder.rename(workdir)


def _copy_history(source: Path, folder: Path) -> None:
    for name in HISTORY_FILES:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
