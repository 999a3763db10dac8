"""The checkpoints of a run on a local disk, each in a folder named by its step."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from isojax.runs import layout
from isojax.runs.saved_steps import saved_steps
from isojax.training.leaves import Arrays, Leaf
from isojax.training.step_folder import (
    UNFINISHED,
    delete_step,
    read_step,
    reserve_space,
    write_step,
)

_TRIAL = f"trial{UNFINISHED}"


class LocalSteps:
    """Reads and writes the checkpoints of a run on a local disk.

    A folder without a record is not a checkpoint: a process was killed while it wrote
    or deleted the folder. The next save deletes it.
    """

    is_remote = False

    def __init__(self, workdir: Path):
        """Opens the checkpoints of a run.

        Args:
          workdir: the run's folder.
        """
        self._workdir = workdir.absolute()
        self._folder = self._workdir / layout.CHECKPOINTS_FOLDER

    def __str__(self) -> str:
        """Returns the folder, for messages."""
        return str(self._folder)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        return saved_steps(self._workdir)

    def contains(self, step: int) -> bool:
        """Returns whether there is a complete checkpoint of a step."""
        return (self._folder / str(step) / layout.RECORD_FILE).exists()

    def prepare(self) -> None:
        """Creates the folder, and deletes what a killed process or a failure left.

        Raises:
          OSError: if the folder cannot be created.
        """
        if self._folder.exists() and not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self._folder.mkdir(exist_ok=True)
        self.clean_up()

    def clean_up(self) -> None:
        """Deletes incomplete checkpoints and trial files; errors are ignored."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            is_incomplete = path.name.isdecimal() and not self.contains(int(path.name))
            # Earlier versions renamed folders that they deleted.
            if path.is_dir() and (
                is_incomplete or path.suffix in (UNFINISHED, ".deleted")
            ):
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix == UNFINISHED:
                with suppress(OSError):
                    path.unlink()

    def write_trial(self, size: int) -> None:
        """Tries every operation of a save.

        Args:
          size: space to reserve, in bytes.

        Raises:
          Exception: any error of an operation.
        """
        self.prepare()
        reserve_space(self._folder / f"space{UNFINISHED}", size)
        trial = self._folder / _TRIAL
        write_step(trial, {"number": np.zeros(())})
        delete_step(trial)

    def write(self, step: int, arrays: Arrays) -> None:
        """Writes a checkpoint; raises what `write_step` raises."""
        write_step(self._folder / str(step), arrays)

    def read(self, step: int, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
        """Reads arrays of a checkpoint, with the arguments of `read_step`."""
        return read_step(self._folder / str(step), wanted, whole=whole)

    def delete(self, step: int) -> None:
        """Deletes a checkpoint.

        Raises:
          OSError: if its record cannot be deleted.
        """
        delete_step(self._folder / str(step), ignore_errors=True)

    def set_aside(self, step: int) -> str:
        """Renames a damaged checkpoint so that its step can be saved again.

        Returns:
          The new name.

        Raises:
          OSError: if it cannot be renamed.
        """
        number, name = 1, f"{step}.damaged"
        while (self._folder / name).exists():
            number += 1
            name = f"{step}.damaged-{number}"
        return (self._folder / str(step)).rename(self._folder / name).name
