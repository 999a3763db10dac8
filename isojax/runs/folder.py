"""A run's folder: its config, and the refusal to mix two runs in one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError, first_line
from isojax.runs import layout
from isojax.runs.config_file import (
    describe_differences,
    differing_fields,
    load_config,
    save_config,
)
from isojax.runs.lock import run_lock


@contextmanager
def open_run_folder(workdir: str | os.PathLike, config: ConfigDict) -> Iterator[Path]:
    """Makes the folder of a new run, or recognises the folder of the same run.

    No other process can open the folder while the context lasts. Where several
    processes train together, only the first calls this.

    Args:
      workdir: the folder, made where it is missing.
      config: of the run.

    Yields:
      The folder, with `config.json` in it.

    Raises:
      UsageError: if the folder cannot be written, is in use, or holds another run or
        other files.
    """
    workdir = Path(workdir)
    with ExitStack() as held:
        _claim(workdir, config, held)
        yield workdir


def _claim(workdir: Path, config: ConfigDict, held: ExitStack) -> None:
    if ":/" in str(workdir):
        raise UsageError(
            f"--workdir={workdir} is no folder of this machine; name one, such as "
            "where the bucket is mounted"
        )
    try:
        if workdir.exists() and not workdir.is_dir():
            raise UsageError(f"--workdir={workdir} is a file; name a folder")
        workdir.mkdir(parents=True, exist_ok=True)
        _check_contents(workdir, config)
        held.enter_context(run_lock(workdir))
        _check_contents(workdir, config)  # under the lock nobody else changes them
        save_config(workdir, config)
    except OSError as error:
        raise cannot_be_written(workdir, error) from error


def _check_contents(workdir: Path, config: ConfigDict) -> None:
    if (workdir / layout.CONFIG_FILE).exists():
        _check_same_run(workdir, config)
        return
    # A run that was killed in its first moment leaves these.
    passing = (layout.LOCK_FILE, f".{layout.CONFIG_FILE}")
    if any(not path.name.startswith(passing) for path in workdir.iterdir()):
        raise UsageError(
            f"--workdir={workdir} holds files but no run; name a new folder"
        )


def cannot_be_written(workdir: Path, error: Exception) -> UsageError:
    """The error of a directory in which a run's files cannot be written."""
    return UsageError(
        f"--workdir={workdir} cannot be written ({first_line(error)}); choose another "
        "directory"
    )


def _check_same_run(workdir: Path, config: ConfigDict) -> None:
    differing = differing_fields(load_config(workdir), config)
    if differing:
        has_checkpoint = any((workdir / layout.CHECKPOINTS_FOLDER).glob("*"))
        remedy = (
            f"and to go on from this run's newest checkpoint add --fork_from={workdir}"
            if has_checkpoint
            else "or delete this one, which has no checkpoint yet"
        )
        raise UsageError(
            f"--workdir={workdir} holds a run with another config: "
            f"{describe_differences(differing)}; name another folder, {remedy}"
        )
