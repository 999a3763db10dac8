"""The refusal to mix runs that cannot stand in one table."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from isojax.errors import UsageError
from isojax.runs import layout
from isojax.runs.config_file import describe_differences, differing_fields, load_config
from isojax.sweeps.plan import SweepRun
from isojax.sweeps.rows import runs_in

# A preset may change the other fields; these are one in a sweep.
_SHARED = ("data.", "model.", "augment.", "epochs", "steps")


def check_same_sweep(
    directory: Path, config_of: Callable[[SweepRun], ConfigDict]
) -> None:
    """Refuses a folder whose runs have other settings than this sweep gives them.

    Args:
      directory: the sweep's folder.
      config_of: gives the config that this sweep would give a run.

    Raises:
      UsageError: naming the fields that differ.
    """
    for run, config in _configs_in(directory):
        differing = differing_fields(config, config_of(run))
        if differing:
            raise UsageError(
                f"--workdir={directory} holds a sweep with other settings, in "
                f"{run.name}: {describe_differences(differing)}; name another folder"
            )


def check_one_sweep(directory: Path) -> None:
    """Refuses a folder whose runs differ where no preset makes them differ.

    Raises:
      UsageError: naming the fields that differ.
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
                    f"--workdir={directory} has runs that do not belong in one table: "
                    f"{describe_differences(differing, names=names)}; move one of them "
                    "to another directory"
                )


def _configs_in(directory: Path) -> list[tuple[SweepRun, ConfigDict]]:
    return [
        (run, load_config(directory / run.name))
        for run in runs_in(directory)
        if (directory / run.name / layout.CONFIG_FILE).exists()
    ]
