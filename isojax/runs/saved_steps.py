"""The steps of a run's complete checkpoints, in its folder or in a bucket."""

from collections.abc import Iterable
from pathlib import Path

from isojax.runs import layout
from isojax.runs.mirror import find_mirror


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps of a run's complete checkpoints, ascending.

    Args:
      workdir: the run's folder, or the folder of a mirror.

    Raises:
      BucketError: if the bucket cannot be read.
    """
    if mirror := find_mirror(workdir):
        return steps_of(mirror.bucket.find(layout.CHECKPOINTS_FOLDER))
    folder = workdir / layout.CHECKPOINTS_FOLDER
    records = folder.glob(f"*/{layout.RECORD_FILE}")
    return steps_of(record.relative_to(workdir).as_posix() for record in records)


def steps_of(names: Iterable[str]) -> list[int]:
    """Returns the steps of the checkpoints that have a record, ascending.

    Args:
      names: names of files, such as `checkpoints/8/checksums.json`.
    """
    found = []
    for name in names:
        match name.split("/"):
            case [layout.CHECKPOINTS_FOLDER, step, layout.RECORD_FILE]:
                if step.isdecimal():
                    found.append(int(step))
    return sorted(found)
