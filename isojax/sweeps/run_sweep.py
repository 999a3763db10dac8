"""Runs a sweep, from checks of its folder to its tables."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.output import print_line, run_optional
from isojax.runs import layout
from isojax.runs.folder import cannot_be_written
from isojax.runs.mirror import find_mirror, names_in, refresh, upload
from isojax.stopping import STOPPED_EXIT_CODE, SignalForwarder
from isojax.sweeps.claims import lock_sweep
from isojax.sweeps.compatibility import check_one_sweep, check_same_sweep
from isojax.sweeps.execute import Executor, describe_elsewhere
from isojax.sweeps.job_devices import JobDevices
from isojax.sweeps.plan import Plan, SweepRun
from isojax.sweeps.rows import COLLAPSED, CRASHED, FINISHED, read_row, runs_in
from isojax.sweeps.run_log import RECORDS_FOLDER, add_planned_runs, planned_names
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
    devices: Sequence[JobDevices],
    retry: bool = False,
) -> int:
    """Runs the unfinished runs of a sweep and writes its tables after each.

    Several processes, also of different machines, can work on one sweep: each run is
    trained by one of them. A process returns when it has no run left that it could
    take.

    Args:
      directory: the sweep's folder, or the folder of a mirror; created if it does not
        exist.
      plan: the runs.
      config_of: returns the config of any run, including runs that are not in the plan.
      command: returns the command that trains and evaluates a run.
      again: the command line that resumes this sweep.
      devices: the devices of each run at a time.
      retry: whether runs that crashed or diverged are run again.

    Returns:
      The exit code: 0 if all runs finished, or other processes work on the rest; 1 if a
      run crashed; `STOPPED_EXIT_CODE` if a signal stopped the sweep and the active runs
      are saved; 128 + N if an urgent signal N killed the runs.

    Raises:
      UsageError: if a config is invalid, or the folder is not writable or contains
        other files.
    """
    for config in plan.configs.values():
        check_config(config)
    try:
        _check_folder(directory)
        check_same_sweep(directory, config_of)
        for preset, twin in plan.twins.items():
            print_line(f"{preset} has the same settings as {twin} and is not run.")
        with lock_sweep(directory):
            refresh(directory, RECORDS_FOLDER)
            add_planned_runs(directory, plan.configs)
            upload(directory)
        with SignalForwarder() as signals:
            outcome = Executor(
                directory,
                plan.configs,
                command,
                devices=devices,
                retry=retry,
                signals=signals,
                after_each=lambda: run_optional(
                    lambda: _write_tables(directory),
                    failure="the tables were not written; the sweep continues",
                ),
            ).run()
            table = _write_tables(directory)
    except OSError as error:
        raise cannot_be_written(directory, error) from error
    print_line(f"\n{table}\nWritten to {', '.join(_files(directory))}.")
    if outcome.elsewhere:
        print_line(
            "Other processes are working on the remaining runs and will add them to "
            f"the tables: {describe_elsewhere(outcome.elsewhere)}."
        )
    if outcome.is_stopped:
        print_line(f"The sweep has stopped. To resume it: {again}")
        return 128 + signals.killed_by if signals.killed_by else STOPPED_EXIT_CODE
    crashed = [
        run.name for run in plan.configs if read_row(directory, run).status == CRASHED
    ]
    if crashed:
        print_line(
            f"Crashed: {', '.join(crashed)}. Add --retry to the command to resume them."
        )
    return int(bool(crashed))


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


def _write_tables(directory: Path) -> str:
    """Writes the tables of the runs of all processes, and returns the Markdown one."""
    with lock_sweep(directory):  # otherwise an older table could replace a newer one
        upload(directory)
        _refresh_runs(directory)
        table = write_tables(directory)
        upload(directory)
    return table


def _refresh_runs(directory: Path) -> None:
    """Downloads the results of other processes, if the sweep is in a bucket."""
    if find_mirror(directory) is None:
        return
    refresh(directory, RECORDS_FOLDER)
    for name in planned_names(directory):
        run = SweepRun.from_name(name)
        if run and read_row(directory, run).status not in (FINISHED, COLLAPSED):
            refresh(directory, name)


def _check_folder(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--workdir={directory} is a file; choose a directory")
    if not directory.exists() or planned_names(directory) or runs_in(directory):
        return
    # Another process may be creating the sweep.
    if not {*names_in(directory)} <= {layout.LOCK_FILE, RECORDS_FOLDER}:
        raise UsageError(
            f"--workdir={directory} contains files but no sweep; choose a new directory"
        )


def _files(directory: Path) -> list[str]:
    names = CSV_FILE, MARKDOWN_FILE, LATEX_FILE, DIAGNOSTICS_FILE
    return [str(directory / name) for name in names]
