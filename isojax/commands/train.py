"""Pretrains an encoder without labels.

    isojax train [--config=NAME[:PRESET]] [--workdir=DIR]
                 [--config.FIELD=VALUE ...] [--data_dir=DIR] [--fork_from=DIR]

With no flags it trains on the digits that come with isojax. Exit codes: 0 finished,
75 stopped by a signal and saved (the same command resumes the run), 2 a user's error.
"""

import sys

from absl import flags
from ml_collections import ConfigDict

from isojax.commands import command_line
from isojax.configs import config_names
from isojax.configs.base import PRESETS
from isojax.errors import UsageError
from isojax.stopping import STOPPED_EXIT_CODE, StopRequest

_CONFIG = command_line.define_config(
    "digits",
    f"A config of isojax ({', '.join(config_names())}) or the path of a file; a "
    "preset may follow after a colon.",
)
_WORKDIR = command_line.define_path(
    "workdir",
    None,
    "Directory of the run; an unfinished run in it is resumed. By default "
    "runs/DATA-PRESET.",
)
_DATA_DIR = command_line.define_path(
    "data_dir",
    None,
    "Directory of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)

_FORK_FROM = command_line.define_path(
    "fork_from",
    None,
    "Directory of another run. The new run starts from its newest checkpoint, with "
    "the given config and a copy of the metrics so far.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Process 0, where several train together. Slurm and Open MPI need none of these "
    "three flags, TPU virtual machines --coordinator=auto alone, and "
    "isojax launch gives them.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def main() -> None:
    """Runs the training that the flags describe."""
    if any(argument.startswith("--config.preset") for argument in sys.argv[1:]):
        raise UsageError("put the preset after the config: --config=NAME:PRESET")
    config = command_line.config_to_train(_CONFIG)
    with StopRequest() as stop:
        _train(config, stop)
        if stop.has_stopped_run:
            sys.exit(STOPPED_EXIT_CODE)


def _train(config: ConfigDict, stop: StopRequest) -> None:
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.compilation import choose_kernels, keep_programs
    from isojax.training import pretrain

    choose_kernels()
    parallel.connect(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    parallel.check_platform()
    workdir = _WORKDIR.value or f"runs/{config.data.name}-{config.preset}"
    keep_programs(workdir)
    # With several processes the others would wait for one that exits alone.
    stop.ends_at_once = parallel.process_part()[1] == 1
    with parallel.ending_alone():
        pretrain(
            config,
            workdir,
            data_dir=_DATA_DIR.value,
            fork_from=_FORK_FROM.value,
            stop=stop,
        )
    # A scheduler that asked the run to stop may kill it within seconds.
    if parallel.is_first_process() and not (stop.is_set or stop.has_stopped_run):
        from isojax.reporting.closing import announce_report

        announce_report(workdir)


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "run": {
                "config": "=FILE[:PRESET]",
                "workdir": "=DIR",
                "data_dir": "=DIR",
                "fork_from": "=DIR",
            },
            "several processes": {
                "coordinator": "=HOST:PORT",
                "num_processes": "=N",
                "process_id": "=N",
            },
        },
        notes={
            "presets": f"{', '.join(PRESETS)}. Each may end in _ema or _noema, which "
            "chooses the target, and begin with official_ for the recipe of the "
            "authors' code (not with the digits).",
            "config fields": "--config.FIELD=VALUE sets one, such as "
            "--config.epochs=20 or --config.method.alpha=1. configs/base.py lists "
            "them, and docs/configs.md.",
        },
    )
