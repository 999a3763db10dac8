"""Trains and evaluates combinations of methods, targets and seeds, and makes tables.

    python -m isojax.sweep --methods=byol,isoloss [--ema=true,false] [--seeds=5]
                           [--config=configs/NAME.py] [--config.FIELD=VALUE ...]
                           [--workdir=DIR] [--data_dir=DIR] [--retry] [--tables_only]

Writes DIR/runs.csv, DIR/table.md and DIR/table.tex after each run. The same command
resumes a sweep; with more methods or seeds it extends it. Exit codes: 0 finished, 1 a
run crashed, 75 stopped by a signal and saved, 2 a user's error.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from isojax import cli
from isojax.output import say
from isojax.sweeps.plan import (
    Run,
    check_effects,
    check_fields,
    plan_runs,
    with_seed,
)

_DEFAULT_CONFIG = str(Path(__file__).parents[1] / "configs" / "digits.py")
_CONFIG = cli.define_config(
    _DEFAULT_CONFIG,
    "Config file, without a preset.",
)
_METHODS = flags.DEFINE_list(
    "methods", [], "Presets, such as byol,isoloss; configs/base.py lists them."
)
_EMA = flags.DEFINE_list(
    "ema",
    ["true", "false"],
    "true for a target that is a moving average, false for one that is the online "
    "network itself, or both.",
)
_SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds; 5 means 0 to 4.")
_WORKDIR = cli.define_path(
    "workdir", None, "Folder of the sweep. By default runs/DATA-sweep."
)
_DATA_DIR = cli.define_path(
    "data_dir",
    None,
    "Folder of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)
_RETRY = flags.DEFINE_bool(
    "retry", False, "Go on with the runs that crashed or diverged."
)
_TABLES_ONLY = flags.DEFINE_bool(
    "tables_only", False, "Write the tables of what is there, and run nothing."
)


def main() -> None:
    """Runs the sweep that the flags describe."""
    directory = Path(_WORKDIR.value or f"runs/{_CONFIG.value.data.name}-sweep")
    if _TABLES_ONLY.value:
        from isojax.sweeps.run import rewrite_tables

        say(rewrite_tables(directory))
        return
    location = config_flags.get_config_filename(flags.FLAGS["config"])
    fields = config_flags.get_override_values(flags.FLAGS["config"])
    check_fields(fields, config_argument=location)

    def fields_of(preset: str) -> dict[str, Any]:
        """The fields that act in a preset; the others would be recorded for nothing."""
        effects = cli.field_effects(f"{location}:{preset}", fields)
        return {n: value for n, value in fields.items() if effects.get(n) is None}

    def read_preset(preset: str) -> ConfigDict:
        return cli.read_config(f"{location}:{preset}", fields_of(preset))

    def config_of(run: Run) -> ConfigDict:
        return with_seed(read_preset(run.preset), run.seed)

    def command(run: Run) -> list[str]:
        return [
            *(sys.executable, "-m", "isojax.sweeps.worker"),
            f"--config={location}:{run.preset}",
            f"--config.seed={run.seed}",
            *(f"--config.{n}={value}" for n, value in fields_of(run.preset).items()),
            f"--workdir={directory / run.name}",
            *([f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []),
        ]

    plan = plan_runs(
        read_preset, methods=_METHODS.value, targets=_EMA.value, seeds=_SEEDS.value
    )
    check_effects(
        fields,
        [
            cli.field_effects(f"{location}:{preset}", fields)
            for preset in {run.preset: None for run in plan.configs}
        ],
    )

    from isojax.sweeps.run import run_sweep  # after the flags: JAX takes a second

    code = run_sweep(
        directory,
        plan,
        config_of=config_of,
        command=command,
        again=shlex.join(["python", "-m", "isojax.sweep", *sys.argv[1:]]),
        retry=_RETRY.value,
    )
    sys.exit(code)


if __name__ == "__main__":
    cli.run(
        main,
        groups={
            "what is trained": {
                "methods": "=PRESET,...",
                "ema": "=true,false",
                "seeds": "=N",
                "config": "=FILE",
            },
            "folders": {"workdir": "=DIR", "data_dir": "=DIR"},
            "what is done": {"retry": "", "tables_only": ""},
        },
        notes={
            "config fields": "--config.FIELD=VALUE sets one, for all runs. "
            "configs/base.py lists them, and docs/configs.md.",
        },
    )
