"""Runs a sweep, from checks of its folder to its tables."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.output import print_line, run_optional
from isojax.runs import layout
from isojax.runs.folder import cannot_be_written
from isojax.runs.lock import run_lock
from isojax.runs.mirror import names_in, upload
from isojax.stopping import STOPPED_EXIT_CODE, SignalForwarder
from isojax.sweeps.compatibility import check_one_sweep, check_same_sweep
from isojax.sweeps.execute import execute
from isojax.sweeps.plan import Plan, SweepRun
from isojax.sweeps.rows import CRASHED, read_row, runs_in
from isojax.sweeps.run_log import add_planned_runs, planned_names
from isojax.sweeps.table import (
    CSV_FILE,
    DIAGNOSTICS_FILE,
    LATEX_FILE,
    MARKDOWN_FILE,
    write_tables,
)
from isojax.training.config import check_config


def run_sweep(
    directory: Path,
    plan: Plan,
    *,
    config_of: Callable[[SweepRun], ConfigDict],
    command: Callable[[SweepRun], list[str]],
    again: str,
    retry: bool = False,
) -> int:
    """Runs the unfinished runs of a sweep and writes its tables after each.

    Args:
      directory: the sweep's folder, or the folder of a mirror; created if it does not
        exist.
      plan: the runs.
      config_of: returns the config of any run, including runs that are not in the plan.
      command: returns the command that trains and evaluates a run.
      again: the command line that resumes this sweep.
      retry: whether runs that crashed or diverged are run again.

    Returns:
      The exit code: 0 if all runs finished; 1 if a run crashed; `STOPPED_EXIT_CODE` if
      a signal stopped the sweep and the current run is saved; 128 + N if an urgent
      signal N killed the run.

    Raises:
      UsageError: if a config is invalid, or the folder is not writable, is in use, or
        contains other files.
    """
    for config in plan.configs.values():
        check_config(config)
    try:
        _check_folder(directory)
        check_same_sweep(directory, config_of)
        directory.mkdir(parents=True, exist_ok=True)
        with run_lock(directory), SignalForwarder() as signals:
            for preset, twin in plan.twins.items():
                print_line(f"{preset} has the same settings as {twin} and is not run.")
            add_planned_runs(directory, plan.configs)
            is_complete = execute(
                directory,
                plan.configs,
                command,
                retry=retry,
                signals=signals,
                after_each=lambda: run_optional(
                    lambda: _write_tables(directory),
                    failure="the tables were not written; the sweep continues",
                ),
            )
            table = write_tables(directory)
    except OSError as error:
        raise cannot_be_written(directory, error) from error
    print_line(f"\n{table}\nWritten to {', '.join(_files(directory))}.")
    if not is_complete:
        print_line(f"The sweep has stopped. To resume it: {again}")
        return 128 + signals.killed_by if signals.killed_by else STOPPED_EXIT_CODE
    statuses = {read_row(directory, run).status for run in plan.configs}
    return int(CRASHED in statuses)


def rewrite_tables(directory: Path) -> str:
    """Writes the tables of the runs that a sweep's folder contains.

    Args:
      directory: the sweep's folder.

    Returns:
      The Markdown table with its notes.

    Raises:
      UsageError: if the folder contains no runs, or runs that cannot be compared.
    """
    if not runs_in(directory):
        raise UsageError(
            f"--workdir={directory} contains no runs of a sweep; set it to the sweep's "
            "directory"
        )
    check_one_sweep(directory)
    return write_tables(directory)


def _write_tables(directory: Path) -> None:
    write_tables(directory)
    upload(directory)


def _check_folder(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--workdir={directory} is a file; choose a directory")
    if not directory.exists() or planned_names(directory) or runs_in(directory):
        return
    if any(name != layout.LOCK_FILE for name in names_in(directory)):
        raise UsageError(
            f"--workdir={directory} contains files but no sweep; choose a new directory"
        )


def _files(directory: Path) -> list[str]:
    names = CSV_FILE, MARKDOWN_FILE, LATEX_FILE, DIAGNOSTICS_FILE
    return [str(directory / name) for name in names]
