"""Checkpoints of the whole state, by orbax."""

import os
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from isojax.errors import UsageError
from isojax.training.state import TrainState

_KEPT = 2


class Checkpoints:
    """The checkpoints of one run.

    They are written while training goes on; the newest ones are kept.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Opens the checkpoints of the run in `workdir`, which may have none yet."""
        self._folder = (Path(workdir) / "checkpoints").absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT),
            item_handlers=ocp.PyTreeCheckpointHandler(),
        )

    def save(self, state: TrainState) -> None:
        """Starts to write `state` under its step."""
        self._manager.save(int(state.step), args=ocp.args.PyTreeSave(state))

    def latest_step(self) -> int | None:
        """The newest step there is, or None."""
        return self._manager.latest_step()

    def restore(self, like: Any, step: int | None = None) -> Any:
        """Reads a state or a part of it.

        Args:
          like: arrays, or their shapes, of a `TrainState` or of a dictionary that has
            some of its fields; the rest is not read.
          step: which checkpoint; the newest by default.

        Returns:
          What `like` names, on this process's first device.

        Raises:
          UsageError: if there is no such checkpoint, or it does not fit or cannot be
            read.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UsageError(
                f"there is no checkpoint in {self._folder}; let train.py finish first"
            )
        step = steps[-1] if step is None else step
        if step not in steps:
            raise UsageError(
                f"there is no checkpoint of step {step} in {self._folder}; there are "
                f"{', '.join(map(str, steps))}"
            )
        target = jax.tree.map(_on_first_device, like)
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        try:
            return self._manager.restore(
                step,
                args=ocp.args.PyTreeRestore(
                    target, restore_args=restore_args, partial_restore=True
                ),
            )
        except (ValueError, OSError, KeyError) as error:
            raise UsageError(
                f"the checkpoint of step {step} in {self._folder} cannot be read "
                f"({str(error).splitlines()[0]}); remove its folder to use an older one"
            ) from error

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.close()


def _on_first_device(array: jax.Array) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
