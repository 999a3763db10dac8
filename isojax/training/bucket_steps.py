"""The checkpoints of a run in a bucket."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from isojax.errors import UsageError, first_line
from isojax.runs import layout
from isojax.runs.mirror import Mirror
from isojax.runs.saved_steps import steps_of
from isojax.training.leaves import Arrays, Leaf
from isojax.training.step_folder import (
    UNFINISHED,
    Damaged,
    read_step,
    reserve_space,
    write_step,
)

_FOLDER = layout.CHECKPOINTS_FOLDER
_TRIAL = f"trial{UNFINISHED}"


class BucketSteps:
    """Reads and writes the checkpoints of a run in a bucket.

    A checkpoint is written to a local temporary folder and uploaded, its record last.
    It is downloaded before it is read. Objects of a step without a record are not a
    checkpoint; the next save deletes them.
    """

    # Transfers may take longer than the interval between two saves.
    is_remote = True

    def __init__(self, mirror: Mirror):
        """Opens the checkpoints of a run.

        Args:
          mirror: the local copy of the run's small files.
        """
        self._mirror, self._bucket = mirror, mirror.bucket
        self._local = mirror.folder / _FOLDER
        self._known: list[int] | None = None

    def __str__(self) -> str:
        """Returns the URL, for messages."""
        return f"{self._bucket.url}/{_FOLDER}"

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending.

        The process that trains the run is the only writer and lists them once.

        Raises:
          UsageError: if the bucket cannot be read.
        """
        if self._known is None or self._mirror.lease is None:
            try:
                found = self._bucket.find(_FOLDER)
            except OSError as error:
                raise self._unreadable(error) from error
            self._known = steps_of(found)
        return list(self._known)

    def contains(self, step: int) -> bool:
        """Returns whether there is a complete checkpoint of a step."""
        return step in self.steps()

    def prepare(self) -> None:
        """Deletes incomplete checkpoints.

        Raises:
          BucketError: if they cannot be listed or deleted.
        """
        names = self._bucket.find(_FOLDER)
        complete = {str(step) for step in steps_of(names)}
        self._bucket.delete(
            name
            for name in names
            if (folder := name.split("/")[1]) == _TRIAL
            or (folder.isdecimal() and folder not in complete)
        )

    def clean_up(self) -> None:
        """Does nothing: `prepare` deletes what a failed save leaves in the bucket."""

    def write_trial(self, size: int) -> None:
        """Tries every operation of a save.

        Args:
          size: space to reserve in the local temporary folder, in bytes.

        Raises:
          Exception: any error of an operation.
        """
        self.prepare()
        with self._local_folder(_TRIAL) as folder:
            reserve_space(self._local / f"space{UNFINISHED}", size)
            self._write(folder, {"number": np.zeros(())})
        self._delete(_TRIAL)

    def write(self, step: int, arrays: Arrays) -> None:
        """Writes a checkpoint.

        Raises:
          UsageError: if another process has taken over the run.
          Exception: any error of orbax, TensorStore or the bucket.
        """
        with self._local_folder(str(step)) as folder:
            self._write(folder, arrays)
        self._known = sorted({*self.steps(), step})

    def _write(self, folder: Path, arrays: Arrays) -> None:
        write_step(folder, arrays)
        record = folder / layout.RECORD_FILE
        paths = [path for path in folder.rglob("*") if path.is_file()]
        names = {self._name(path): path for path in paths if path != record}
        self._bucket.upload(names)
        stored = self._bucket.find(self._name(folder))
        for name, path in names.items():
            if stored.get(name) != path.stat().st_size:
                raise OSError(f"{name} was not uploaded completely")
        # What a resumed run needs beside the checkpoint; also checks the lease.
        self._mirror.upload()
        self._bucket.write(self._name(record), record.read_bytes())

    def read(self, step: int, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
        """Reads arrays of a checkpoint, with the arguments of `read_step`.

        A damaged checkpoint is downloaded once more, in case the transfer failed.

        Raises:
          Damaged: if a file differs from what was written.
          UsageError: if the bucket cannot be read, or the checkpoint is undamaged, but
            of another model.
        """
        try:
            return self._read(step, wanted, whole=whole)
        except Damaged:
            return self._read(step, wanted, whole=whole)

    def _read(self, step: int, wanted: dict[str, Leaf], *, whole: bool) -> Arrays:
        with self._local_folder(str(step)) as folder:
            try:
                names = self._bucket.find(self._name(folder))
                self._bucket.download(names, self._mirror.folder)
            except FileNotFoundError as error:  # deleted at this moment
                raise Damaged(first_line(error)) from error
            except OSError as error:
                raise self._unreadable(error) from error
            return read_step(folder, wanted, whole=whole)

    def delete(self, step: int) -> None:
        """Deletes a checkpoint, its record first.

        Raises:
          BucketError: if it cannot be deleted.
        """
        self._known = [known for known in self.steps() if known != step]
        self._delete(str(step))

    def _delete(self, name: str) -> None:
        record = f"{_FOLDER}/{name}/{layout.RECORD_FILE}"
        self._bucket.delete([record])
        names = self._bucket.find(f"{_FOLDER}/{name}")
        self._bucket.delete(other for other in names if other != record)

    def set_aside(self, step: int) -> str:
        """Moves a damaged checkpoint so that its step can be saved again.

        Returns:
          The new name.

        Raises:
          UsageError: if it cannot be moved.
        """
        folder = f"{_FOLDER}/{step}/"
        try:
            _, folders = self._bucket.list(_FOLDER)
            number, name = 1, f"{step}.damaged"
            while f"{_FOLDER}/{name}" in folders:
                number += 1
                name = f"{step}.damaged-{number}"
            self._bucket.copy(
                {
                    old: f"{_FOLDER}/{name}/{old.removeprefix(folder)}"
                    for old in self._bucket.find(folder.rstrip("/"))
                }
            )
            self.delete(step)
        except OSError as error:
            raise UsageError(
                f"the checkpoint of step {step} in {self} is damaged and cannot be "
                f"moved ({first_line(error)}); delete it and repeat the command"
            ) from error
        return name

    def _unreadable(self, error: OSError) -> UsageError:
        return UsageError(
            f"{self} cannot be read ({first_line(error)}); repeat the command when the "
            "bucket can be reached"
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._mirror.folder).as_posix()

    @contextmanager
    def _local_folder(self, name: str) -> Iterator[Path]:
        """Returns a local path for a checkpoint, and deletes the folder at the end."""
        folder = self._local / name
        self._local.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
