"""Pretrains an encoder without labels.

    isojax train [--config=NAME[:PRESET]] [--workdir=DIR]
                 [--config.FIELD=VALUE ...] [--data_dir=DIR] [--fork_from=DIR]

Without flags it trains on the digits data set that isojax contains. Exit codes: 0 if
the run finished; 75 if a signal stopped it and its state is saved, so that the same
command resumes it; 2 for an error in the flags or the config.
"""

import sys

from ml_collections import ConfigDict

from isojax.commands import command_line, config_flag, path_flag, process_flags
from isojax.configs import config_names
from isojax.configs.base import PRESETS
from isojax.errors import UsageError
from isojax.fields import data_name
from isojax.stopping import STOPPED_EXIT_CODE, StopRequest

_CONFIG = config_flag.define_config(
    "digits",
    f"Config: one of {', '.join(config_names())}, or the path of a file; optionally "
    "followed by a colon and a preset.",
)
_WORKDIR = path_flag.define_path(
    "workdir",
    None,
    "Directory of the run, or a URL such as gs://bucket/run. An unfinished run in it "
    "is resumed. Default: runs/DATA-PRESET.",
)
_DATA_DIR = path_flag.define_path(
    "data_dir",
    None,
    "Directory of the data sets, or a URL of prepared ones such as gs://bucket/data. "
    "Default: $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)

_FORK_FROM = path_flag.define_path(
    "fork_from",
    None,
    "Directory or URL of another run. The new run starts from its newest checkpoint "
    "and a copy of its metrics, with the given config.",
)
process_flags.define_process_flags()


def main() -> None:
    """Trains with the settings of the flags."""
    if any(argument.startswith("--config.preset") for argument in sys.argv[1:]):
        raise UsageError("put the preset after the config: --config=NAME:PRESET")
    config = config_flag.config_to_train(_CONFIG)
    with StopRequest() as stop:
        _train(config, stop)
        if stop.has_stopped_run:
            sys.exit(STOPPED_EXIT_CODE)


def _train(config: ConfigDict, stop: StopRequest) -> None:
    # After the flags: JAX takes a second to import.
    from isojax import processes
    from isojax.compilation import configure_cpu, enable_compilation_cache
    from isojax.training import pretrain

    configure_cpu()
    process_flags.connect_processes()
    workdir = _WORKDIR.value or f"runs/{data_name(config.data)}-{config.preset}"
    enable_compilation_cache(workdir)
    # One process that exits alone would leave the others waiting.
    stop.ends_at_once = processes.process_part()[1] == 1
    with processes.exit_immediately_on_failure():
        pretrain(
            config,
            workdir,
            data_dir=_DATA_DIR.value,
            fork_from=_FORK_FROM.value,
            stop=stop,
        )
    # After a request to stop, a scheduler may kill the process within seconds.
    if processes.is_first_process() and not (stop.is_set or stop.has_stopped_run):
        from isojax.reporting.closing import announce_report

        announce_report(workdir)
    processes.disconnect()


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "run": {
                "config": "=NAME[:PRESET]",
                "workdir": "=DIR",
                "data_dir": "=DIR",
                "fork_from": "=DIR",
            },
            **process_flags.GROUP,
        },
        notes={
            "presets": f"{', '.join(PRESETS)}. The suffixes _ema and _noema select the "
            "target: a moving average, or the online network itself. The prefix "
            "official_ selects the recipe of the authors' code, except for "
            "digits and fashion_mnist.",
            "config fields": "--config.FIELD=VALUE sets a field, such as "
            "--config.epochs=20 or --config.method.alpha=1. docs/configs.md lists the "
            "fields.",
        },
    )
