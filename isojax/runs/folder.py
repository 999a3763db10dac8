"""Creates a run's folder, or opens it to resume the run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError, first_line
from isojax.fields import ARRAYS, IMAGES_CHECKSUM, LABELS_CHECKSUM
from isojax.runs import layout
from isojax.runs.config_file import (
    describe_differences,
    differing_fields,
    load_config,
    save_config,
)
from isojax.runs.lock import run_lock
from isojax.runs.mirror import names_in, upload
from isojax.runs.saved_steps import saved_steps


@contextmanager
def open_run_folder(workdir: str | os.PathLike, config: ConfigDict) -> Iterator[Path]:
    """Creates the folder of a new run, or opens the folder of the same run.

    No other process can open the folder while the context lasts. If several processes
    train together, only the first calls this.

    Args:
      workdir: the folder, which is created if it is missing, or the folder of a mirror.
      config: the run's configuration, which is written to the folder.

    Yields:
      The folder, which contains a current `config.json`.

    Raises:
      UsageError: if the folder is not writable, is in use, or contains a run with
        another config or other files.
    """
    workdir = Path(workdir)
    with ExitStack() as held:
        _claim(workdir, config, held)
        yield workdir


def _claim(workdir: Path, config: ConfigDict, held: ExitStack) -> None:
    try:
        if workdir.exists() and not workdir.is_dir():
            raise UsageError(f"--workdir={workdir} is a file; choose a directory")
        workdir.mkdir(parents=True, exist_ok=True)
        _check_contents(workdir, config)
        held.enter_context(run_lock(workdir))
        # Again, now that no other process can change the folder.
        _check_contents(workdir, config)
        save_config(workdir, config)
        upload(workdir)
    except OSError as error:
        raise cannot_be_written(workdir, error) from error


def _check_contents(workdir: Path, config: ConfigDict) -> None:
    if (workdir / layout.CONFIG_FILE).exists():
        _check_same_run(workdir, config)
        return
    # A run that was killed while it created the folder leaves these files.
    leftovers = (layout.LOCK_FILE, f".{layout.CONFIG_FILE}")
    if any(not name.startswith(leftovers) for name in names_in(workdir)):
        raise UsageError(
            f"--workdir={workdir} contains files but no run; choose another directory"
        )


def cannot_be_written(workdir: Path, error: Exception) -> UsageError:
    """Returns the error for a folder that is not writable.

    Args:
      workdir: the folder.
      error: the error of the write.
    """
    return UsageError(
        f"--workdir={workdir} is not writable ({first_line(error)}); choose another "
        "directory"
    )


def _other_images_remedy(what: str, stored: ConfigDict, config: ConfigDict) -> str:
    """Returns how to resume a run although the images or labels differ."""
    folder = stored.data.folder
    if folder and folder == config.data.folder:
        return f"Restore the files in {folder}"
    return f"Pass the {what} of that run" + (f", from {folder}" if folder else "")


def _check_same_run(workdir: Path, config: ConfigDict) -> None:
    stored = load_config(workdir)
    differing = differing_fields(stored, config)
    own = {IMAGES_CHECKSUM, LABELS_CHECKSUM}
    # Other images usually have another mean and standard deviation, too.
    if own & differing.keys() and differing.keys() <= {*own, "data.mean", "data.std"}:
        what = "images" if IMAGES_CHECKSUM in differing else "labels"
        raise UsageError(
            f"--workdir={workdir} contains a run on other {what}: "
            f"{describe_differences(differing)}. "
            f"{_other_images_remedy(what, stored, config)}, or choose another directory"
        )
    if stored.data.name == ARRAYS != config.data.name:
        raise UsageError(
            f"--workdir={workdir} contains a run on arrays; to resume it, call "
            "isojax.training.pretrain with dataset=..., or choose another directory"
        )
    if differing:
        remedy = (
            f"and to start from this run's newest checkpoint add --fork_from={workdir}"
            if saved_steps(workdir)
            else "or delete this one, which contains no checkpoint"
        )
        raise UsageError(
            f"--workdir={workdir} contains a run with another config: "
            f"{describe_differences(differing)}. Choose another directory, {remedy}"
        )
