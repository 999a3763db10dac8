"""Checks that the runs of a sweep can be compared in one table."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.runs.config_file import describe_differences, differing_fields, load_config
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import runs_in

# Fields that are equal in all runs of a sweep; a preset may change the others.
_SHARED = ("data.", "model.", "augment.", "epochs", "steps")


def check_same_sweep(
    directory: Path, config_of: Callable[[SweepRun], ConfigDict]
) -> None:
    """Checks that the runs of a folder have the settings of this sweep.

    Args:
      directory: the sweep's folder.
      config_of: returns the config that a run has in this sweep.

    Raises:
      UsageError: if they differ, with the fields that do.
    """
    for run, config in _configs_in(directory):
        differing = differing_fields(config, config_of(run))
        if differing:
            raise UsageError(
                f"--workdir={directory} contains a sweep with other settings, in "
                f"{run.name}: {describe_differences(differing)}; choose another "
                "directory"
            )


def check_one_sweep(directory: Path) -> None:
    """Checks that the runs of a folder differ in their presets and seeds only.

    Raises:
      UsageError: if other fields differ, with these fields.
    """
    first: dict[str, tuple[SweepRun, ConfigDict]] = {}
    for run, config in _configs_in(directory):
        for group, fields in (("", _SHARED), (run.preset, "")):
            other, other_config = first.setdefault(group, (run, config))
            differing = {
                name: values
                for name, values in differing_fields(other_config, config).items()
                if name.startswith(fields) and name != "seed"
            }
            if differing:
                names = (other.name, run.name)
                raise UsageError(
                    f"--workdir={directory} contains runs that cannot be compared: "
                    f"{describe_differences(differing, names=names)}; move one of them "
                    "to another directory"
                )


def _configs_in(directory: Path) -> list[tuple[SweepRun, ConfigDict]]:
    return [
        (run, load_config(directory / run.name))
        for run in runs_in(directory)
        if (directory / run.name / layout.CONFIG_FILE).exists()
    ]
