"""Checkpoints of a run: written in the background, verified when read."""

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

from isojax import processes
from isojax.errors import UsageError, first_line
from isojax.output import print_line
from isojax.runs.mirror import find_mirror
from isojax.training.bucket_steps import BucketSteps
from isojax.training.leaves import Arrays, Leaf, describe, host_arrays, rebuild
from isojax.training.local_steps import LocalSteps
from isojax.training.state import TrainState
from isojax.training.step_folder import Damaged


class Checkpoints:
    """The checkpoints of a run, each in a folder named by its step.

    If several processes train together, every method must be called by all of them. The
    first process writes, and the state must be the same in all.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep_last: int = 2,
        keep_every_steps: int = 0,
    ):
        """Opens the checkpoints of a run, which may have none yet.

        Args:
          workdir: the run's folder, or the folder of a mirror of a run in a bucket.
          keep_last: number of newest checkpoints that are kept.
          keep_every_steps: checkpoints at multiples of this step are kept too; 0 for
            none.
        """
        mirror = find_mirror(workdir)
        self._storage: BucketSteps | LocalSteps = (
            BucketSteps(mirror) if mirror else LocalSteps(Path(workdir))
        )
        self._keep_last = keep_last
        self._keep_every_steps = keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[str | None] | None = None
        self._writing_step = 0
        self._has_saved = False

    def steps(self) -> list[int]:
        """Steps of the checkpoints, ascending."""
        return self._storage.steps()

    def agreed_steps(self) -> list[int]:
        """Steps of the checkpoints, ascending, compared between the processes.

        Raises:
          UsageError: if not all processes see the same checkpoints.
        """
        steps = self.steps()
        if len({*processes.gather(json.dumps(steps))}) > 1:
            raise UsageError(
                f"not all processes see the same checkpoints in {self._storage}; "
                "choose a --workdir that they share"
            )
        return steps

    def check_writable(self, state: TrainState) -> None:
        """Writes and deletes a small trial checkpoint, before anything is trained.

        Every operation of `save` is tried, and the space of `state` is reserved.

        Args:
          state: the state that will be saved.

        Raises:
          UsageError: if an operation fails.
        """
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        processes.in_first_process(lambda: self._write_trial(size))

    def _write_trial(self, size: int) -> None:
        try:
            self._storage.write_trial(size)
        except Exception as error:  # orbax and TensorStore raise many types
            self._storage.clean_up()
            raise UsageError(
                f"no checkpoint can be written to {self._storage} "
                f"({first_line(error)}), so the run was not started; fix this or "
                "choose another --workdir"
            ) from error

    def save(self, state: TrainState) -> None:
        """Copies `state` to the host and starts writing its checkpoint.

        Waits for a checkpoint that is still being written to a local disk, but not for
        an upload: if another one waits for it, this one replaces that. The first call
        also waits until its own checkpoint is stored. If a later checkpoint cannot be
        written, one line is logged and training continues with the older ones. A step
        that is already saved is not written again.

        Args:
          state: the state, on the devices.

        Raises:
          UsageError: in every process, if the first save fails.
        """
        step = int(state.step)
        if processes.is_first_process():
            arrays = host_arrays(state)
            if not self._storage.is_remote:
                self.wait()
            elif self._writing is not None and self._writing.cancel():
                print_line(
                    f"The checkpoint of step {self._writing_step} was skipped, because "
                    "an earlier one is still being uploaded."
                )
            self._writing = self._writer.submit(self._write, step, arrays)
            self._writing_step = step
        if not self._has_saved:
            processes.in_first_process(self._check_first_save)
            self._has_saved = True

    def _check_first_save(self) -> None:
        problem = self.wait()
        if problem is None:
            return
        kept = self.steps()
        raise UsageError(
            f"the first checkpoint could not be saved in {self._storage} ({problem}), "
            "so the run was stopped. "
            + (
                f"The newest checkpoint is that of step {kept[-1]}"
                if kept
                else "There is no checkpoint"
            )
            + "; fix this and repeat the command"
        )

    def restore(
        self, like: Any, step: int | None = None, *, set_aside: bool = False
    ) -> Any:
        """Reads a state, or a part of it, from the newest undamaged checkpoint.

        Args:
          like: arrays, or their shapes, of a `TrainState` or of a dictionary with some
            of its fields. Other fields are not read.
          step: step of the checkpoint; by default the newest undamaged one.
          set_aside: whether damaged checkpoints are renamed so that their steps can be
            saved again; for the run itself, not for readers of the run.

        Returns:
          The arrays in the structure of `like`, on this process's first device.

        Raises:
          UsageError: if there is no such checkpoint, all are damaged, or the checkpoint
            is of another model.
        """
        wanted = describe(like)
        damaged: dict[int, str] = {}
        # Listed again each time, because a training run deletes its old checkpoints.
        while steps := self._candidates(step, damaged):
            try:
                arrays = self._read(steps[-1], wanted, whole=not isinstance(like, dict))
            except Damaged as error:
                if self._storage.contains(steps[-1]):
                    damaged[steps[-1]] = str(error)
            else:
                self._report_damaged(damaged, set_aside=set_aside)
                return rebuild(like, arrays)
        raise UsageError(self._nothing_to_restore(step, damaged))

    def close(self) -> None:
        """Waits until the last checkpoint is on disk, in every process.

        Raises:
          UsageError: in every process, if the last state could not be written.
        """
        try:
            processes.in_first_process(self._check_last_save)
        finally:
            self._writer.shutdown()

    def _check_last_save(self) -> None:
        problem = self.wait()
        if problem is None:
            return
        kept = self.steps()
        source = f"step {kept[-1]}, the newest checkpoint" if kept else "the beginning"
        raise UsageError(
            f"the last state could not be saved in {self._storage} ({problem}); fix "
            f"this and repeat the command, which resumes from {source}"
        )

    def __enter__(self) -> Self:
        """Returns the checkpoints; their folder is created by the first save."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits until the last checkpoint is on disk, even after an error."""
        if error is None:
            self.close()
        else:
            self.wait()

    def wait(self) -> str | None:
        """Waits for the checkpoint being written; returns its error message if any."""
        return None if self._writing is None else self._writing.result()

    def _write(self, step: int, arrays: Arrays) -> str | None:
        """Writes a checkpoint, prunes old ones; returns the error message or None."""
        try:
            if self._storage.contains(step):
                return None
            self._storage.prepare()
            self._storage.write(step, arrays)
            self._prune()
        except Exception as error:  # orbax and TensorStore raise many types
            problem = first_line(error)
            self._storage.clean_up()
            if self._has_saved:
                print_line(
                    f"The checkpoint of step {step} could not be saved ({problem}); "
                    "training continues with the older ones."
                )
            return problem
        return None

    def _prune(self) -> None:
        for step in self.steps()[: -self._keep_last]:
            if not self._keep_every_steps or step % self._keep_every_steps:
                self._storage.delete(step)

    def _candidates(self, step: int | None, damaged: dict[int, str]) -> list[int]:
        return [
            saved
            for saved in self.steps()
            if saved not in damaged and step in (None, saved)
        ]

    def _read(self, step: int, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
        """Reads a checkpoint; raises Damaged if any process cannot read it."""
        arrays, problem = None, ""
        try:
            arrays = self._storage.read(step, wanted, whole=whole)
        except Damaged as error:
            problem = str(error)
        if processes.any_process(arrays is None) or arrays is None:
            raise Damaged(problem or "another process cannot read it")
        return arrays

    def _report_damaged(self, damaged: dict[int, str], *, set_aside: bool) -> None:
        if not processes.is_first_process():
            return
        for step, problem in damaged.items():
            line = f"The checkpoint of step {step} in {self._storage} is damaged"
            line += f" ({problem}); an older one is used"
            if set_aside:
                line += f", and it is set aside as {self._storage.set_aside(step)}"
            print_line(line + ".")

    def _nothing_to_restore(self, step: int | None, damaged: dict[int, str]) -> str:
        saved = ", ".join(map(str, self.steps()))
        if not saved:
            return f"there is no checkpoint in {self._storage}; train the run further"
        if step is not None and step not in damaged:
            return (
                f"there is no checkpoint of step {step} in {self._storage}; there are "
                f"{saved}"
            )
        problems = "; ".join(f"{s}: {problem}" for s, problem in damaged.items())
        if step is not None:
            return (
                f"the checkpoint of step {step} in {self._storage} is damaged "
                f"({problems}); there are {saved}"
            )
        return (
            f"all checkpoints in {self._storage} are damaged ({problems}); restore one "
            "from a copy, or choose another folder to start again"
        )
