"""Checkpoints of the training state, written in the background, verified when read."""

import errno
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from isojax import parallel
from isojax.errors import UsageError, first_line
from isojax.output import say
from isojax.runs import layout
from isojax.training.leaves import Arrays, describe, host_arrays, rebuild
from isojax.training.state import TrainState
from isojax.training.step_folder import (
    UNFINISHED,
    Damaged,
    read_step,
    reserve_space,
    write_step,
)

_DELETED = ".deleted"
_TRIAL = f"trial{_DELETED}"  # deleted as a leftover, should the process be killed


class Checkpoints:
    """The checkpoints of one run, each in a folder named by its step.

    Where several processes train together, all of them call every method; the first one
    writes. The state must be the same in all.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep_last: int = 2,
        keep_every_steps: int = 0,
    ):
        """Names the checkpoints of the run in `workdir`, which may have none yet.

        Args:
          workdir: the run's folder.
          keep_last: so many of the newest are kept when a new one is written.
          keep_every_steps: those at multiples of it are kept too; 0 for none.
        """
        self._folder = (Path(workdir) / layout.CHECKPOINTS_FOLDER).absolute()
        self._keep_last = keep_last
        self._keep_every_steps = keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[str | None] | None = None
        self._has_saved = False

    def steps(self) -> list[int]:
        """The steps there are, ascending."""
        if not self._folder.is_dir():
            return []
        names = (path.name for path in self._folder.iterdir())
        return sorted(int(name) for name in names if name.isdecimal())

    def agreed_steps(self) -> list[int]:
        """The saved steps, ascending, compared between the processes.

        Raises:
          UsageError: if not all processes see the same ones.
        """
        steps = self.steps()
        if len({*parallel.gather(json.dumps(steps))}) > 1:
            raise UsageError(
                f"not all processes see the same checkpoints in {self._folder}; choose "
                "a --workdir that they share"
            )
        return steps

    def check_writable(self, state: TrainState) -> None:
        """Writes and deletes a trial checkpoint, before anything is trained.

        It takes every operation of a save on one number, and reserves the space of
        `state`.

        Raises:
          UsageError: if an operation fails.
        """
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        parallel.in_first_process(lambda: self._write_trial(size))

    def _write_trial(self, size: int) -> None:
        trial = self._folder / _TRIAL
        try:
            self._prepare_folder()
            reserve_space(self._folder / f"space{UNFINISHED}", size)
            write_step(trial, {"number": np.zeros(())})
            shutil.rmtree(trial)
        except Exception as error:  # orbax and TensorStore raise many types
            self._delete_leftovers()
            raise UsageError(
                f"no checkpoint can be written to {self._folder} "
                f"({first_line(error)}), so the run was not started; fix that, or "
                "choose another --workdir"
            ) from error

    def save(self, state: TrainState) -> None:
        """Copies `state` to the host and starts to write it under its step.

        Waits for a checkpoint that is still being written, and for the first one of
        this object to be on disk. A later one that cannot be written logs one line;
        training continues with the older ones. A step that is already saved is not
        written again.

        Raises:
          UsageError: in every process, if the first save fails.
        """
        step = int(state.step)
        if parallel.is_first_process():
            self.wait()
            if step not in self.steps():
                arrays = host_arrays(state)
                self._writing = self._writer.submit(self._write, step, arrays)
        if not self._has_saved:
            parallel.in_first_process(self._check_first_save)
            self._has_saved = True

    def _check_first_save(self) -> None:
        problem = self.wait()
        if problem is None:
            return
        kept = self.steps()
        raise UsageError(
            f"the first checkpoint could not be saved in {self._folder} ({problem}), "
            "so the run was stopped. "
            + (f"The checkpoint of step {kept[-1]} is kept" if kept else "None is kept")
            + "; fix that and repeat the command"
        )

    def restore(
        self, like: Any, step: int | None = None, *, set_aside: bool = False
    ) -> Any:
        """Reads a state or a part of it from the newest checkpoint that is whole.

        Args:
          like: arrays, or their shapes, of a `TrainState` or of a dictionary that has
            some of its fields; the rest is not read.
          step: which checkpoint, and no other.
          set_aside: whether damaged ones are renamed, so that their steps can be saved
            again. For the run itself, not for its readers.

        Returns:
          What `like` names, on this process's first device.

        Raises:
          UsageError: if there is no such checkpoint, none is whole, or it is of another
            model.
        """
        wanted = describe(like)
        damaged: dict[int, str] = {}
        # Listed anew each time: a run that is training deletes its old ones.
        while steps := self._candidates(step, damaged):
            arrays, problem = self._read(steps[-1], wanted, not isinstance(like, dict))
            if problem is None:
                self._tell(damaged, set_aside=set_aside)
                return rebuild(like, arrays)
            if (self._folder / str(steps[-1])).exists():
                damaged[steps[-1]] = problem
        raise UsageError(self._nothing_to_restore(step, damaged))

    def close(self) -> None:
        """Waits until everything is on disk, in every process.

        Raises:
          UsageError: in every process, if the last state could not be written.
        """
        try:
            parallel.in_first_process(self._check_last_save)
        finally:
            self._writer.shutdown()

    def _check_last_save(self) -> None:
        problem = self.wait()
        if problem is None:
            return
        kept = self.steps()
        source = f"step {kept[-1]}, the newest checkpoint" if kept else "the beginning"
        raise UsageError(
            f"the last state could not be saved in {self._folder} ({problem}); fix "
            f"that and repeat the command, which resumes from {source}"
        )

    def __enter__(self) -> Self:
        """Nothing to do: the folder is made by the first checkpoint."""
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Waits until everything is on disk, whatever ended the run."""
        if error is None:
            self.close()
        else:
            self.wait()

    def wait(self) -> str | None:
        """Waits for the checkpoint being written; returns its error message if any."""
        return None if self._writing is None else self._writing.result()

    def _write(self, step: int, arrays: Arrays) -> str | None:
        """Writes and prunes; returns the error's message, or None."""
        try:
            self._prepare_folder()
            write_step(self._folder / str(step), arrays)
            self._prune()
        except Exception as error:  # orbax and TensorStore raise many types
            problem = first_line(error)
            self._delete_leftovers()
            if self._has_saved:
                say(
                    f"The checkpoint of step {step} could not be saved ({problem}); "
                    "training continues with the older ones."
                )
            return problem
        return None

    def _prepare_folder(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self._folder.mkdir(exist_ok=True)
        self._delete_leftovers()

    def _prune(self) -> None:
        for step in self.steps()[: -self._keep_last]:
            if self._keep_every_steps and step % self._keep_every_steps == 0:
                continue
            # Renamed first: a folder that is half deleted is not taken for damaged.
            folder = self._folder / str(step)
            shutil.rmtree(
                folder.rename(folder.with_suffix(_DELETED)), ignore_errors=True
            )

    def _delete_leftovers(self) -> None:
        """Deletes what a killed process or a failed save has left unfinished."""
        for pattern in (f"*{UNFINISHED}", f"*{_DELETED}"):
            for leftover in self._folder.glob(pattern):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def _candidates(self, step: int | None, damaged: dict[int, str]) -> list[int]:
        return [
            there
            for there in self.steps()
            if there not in damaged and step in (None, there)
        ]

    def _read(
        self, step: int, wanted: dict, whole: bool
    ) -> tuple[Arrays, None] | tuple[None, str]:
        arrays, problem = None, None
        try:
            arrays = read_step(self._folder / str(step), wanted, whole=whole)
        except Damaged as error:
            problem = str(error)
        if parallel.any_process(problem is not None):
            return None, problem or "another process cannot read it"
        return arrays, None

    def _tell(self, damaged: dict[int, str], *, set_aside: bool) -> None:
        if not parallel.is_first_process():
            return
        for step, problem in damaged.items():
            line = f"The checkpoint of step {step} in {self._folder} is damaged"
            line += f" ({problem}); an older one is used"
            if set_aside:
                line += f", and it is set aside as {self._set_aside(step)}"
            say(line + ".")

    def _set_aside(self, step: int) -> str:
        folder = self._folder / str(step)
        number, name = 1, f"{step}.damaged"
        while (self._folder / name).exists():
            number += 1
            name = f"{step}.damaged-{number}"
        return folder.rename(self._folder / name).name

    def _nothing_to_restore(self, step: int | None, damaged: dict[int, str]) -> str:
        there = ", ".join(map(str, self.steps()))
        if not there:
            return f"there is no checkpoint in {self._folder}; train the run further"
        if step is not None and step not in damaged:
            return (
                f"there is no checkpoint of step {step} in {self._folder}; there are "
                f"{there}"
            )
        problems = "; ".join(f"{s}: {problem}" for s, problem in damaged.items())
        if step is not None:
            return (
                f"the checkpoint of step {step} in {self._folder} is damaged "
                f"({problems}); there are {there}"
            )
        return (
            f"none of the checkpoints in {self._folder} is whole ({problems}); restore "
            "one from a copy, or name another folder to begin anew"
        )
