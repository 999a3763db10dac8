"""Trains and evaluates combinations of methods, targets and seeds.

    isojax sweep --methods=byol,isoloss [--ema=true,false] [--seeds=5]
                 [--config=NAME] [--config.FIELD=VALUE ...]
                 [--workdir=DIR] [--data_dir=DIR] [--jobs=N]
                 [--retry] [--tables_only]

Writes the tables DIR/runs.csv, DIR/table.md, DIR/table.tex and DIR/diagnostics.md after
each run. The last one has the correlations of RankMe and other diagnostics with the
accuracy. The same command resumes a sweep; with more methods or seeds it extends the
sweep. Started again while it runs, also on other machines, it takes other runs. Exit
codes: 0 if all runs finished, or other processes work on the rest; 1 if a run crashed;
75 if a signal stopped the sweep and the active runs are saved; 2 for an error in the
flags or the config.
"""

import os
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from isojax.commands import command_line, config_flag, path_flag
from isojax.fields import data_name
from isojax.invocation import command as command_text
from isojax.output import print_line
from isojax.runs.mirror import local_folder
from isojax.sweeps.job_devices import divide_devices
from isojax.sweeps.plan import (
    SweepRun,
    check_effects,
    check_fields,
    plan_runs,
    with_seed,
)

_CONFIG = config_flag.define_config(
    "digits",
    "Config: the name of a packaged config or the path of a file, without a preset.",
)
_METHODS = flags.DEFINE_list(
    "methods", [], "Presets, such as byol,isoloss; docs/configs.md lists them."
)
_EMA = flags.DEFINE_list(
    "ema",
    ["true", "false"],
    "true for a target that is a moving average of the online network, false for a "
    "target that is the online network itself, or both.",
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds; 5 means the seeds 0 to 4.")
_WORKDIR = path_flag.define_path(
    "workdir", None, "Directory or URL of the sweep. Default: runs/DATA-sweep."
)
_DATA_DIR = path_flag.define_path(
    "data_dir",
    None,
    "Directory of the data sets, or a URL of prepared ones such as gs://bucket/data. "
    "Default: $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Number of runs at a time; they divide the GPUs or the processor cores.",
)
_RETRY = flags.DEFINE_bool("retry", False, "Resume the runs that crashed or diverged.")
_TABLES_ONLY = flags.DEFINE_bool(
    "tables_only", False, "Write the tables of the finished runs without running any."
)


def main() -> None:
    """Runs a sweep with the settings of the flags."""
    workdir = _WORKDIR.value or f"runs/{data_name(_CONFIG.value.data)}-sweep"
    if _TABLES_ONLY.value:
        from isojax.sweeps.run_sweep import rewrite_tables

        with local_folder(workdir) as directory:
            print_line(rewrite_tables(directory))
        return
    devices = divide_devices(_JOBS.value)
    location = config_flags.get_config_filename(flags.FLAGS["config"])
    fields = config_flags.get_override_values(flags.FLAGS["config"])
    check_fields(fields, config_argument=location)

    def fields_of(preset: str) -> dict[str, Any]:
        """Returns the fields that have an effect in a preset."""
        effects = config_flag.field_effects(f"{location}:{preset}", fields)
        return {n: value for n, value in fields.items() if effects.get(n) is None}

    def read_preset(preset: str) -> ConfigDict:
        return config_flag.read_config(f"{location}:{preset}", fields_of(preset))

    def config_of(run: SweepRun) -> ConfigDict:
        return with_seed(read_preset(run.preset), run.seed)

    def command(run: SweepRun) -> list[str]:
        return [
            *(sys.executable, "-m", "isojax.commands.sweep_worker"),
            f"--config={location}:{run.preset}",
            f"--config.seed={run.seed}",
            *(f"--config.{n}={value}" for n, value in fields_of(run.preset).items()),
            f"--workdir={os.path.join(workdir, run.name)}",
            *([f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []),
        ]

    plan = plan_runs(
        read_preset, methods=_METHODS.value, targets=_EMA.value, seeds=_SEEDS.value
    )
    check_effects(
        fields,
        [
            config_flag.field_effects(f"{location}:{preset}", fields)
            for preset in {run.preset: None for run in plan.configs}
        ],
    )

    from isojax.sweeps.run_sweep import run_sweep  # after the flags: JAX takes a second

    with local_folder(workdir) as directory:
        code = run_sweep(
            directory,
            plan,
            config_of=config_of,
            command=command,
            again=command_text("sweep", *sys.argv[1:]),
            devices=devices,
            retry=_RETRY.value,
        )
    sys.exit(code)


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "runs": {
                "methods": "=PRESET,...",
                "ema": "=true,false",
                "seeds": "=N",
                "config": "=NAME",
                "jobs": "=N",
            },
            "directories": {"workdir": "=DIR", "data_dir": "=DIR"},
            "actions": {"retry": "", "tables_only": ""},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets a field of all runs; "
            "docs/configs.md lists the fields.",
        },
    )
