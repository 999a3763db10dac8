"""Pretrains an encoder without labels.

    python train.py [--config=configs/NAME.py[:PRESET]] [--workdir=DIR]
                    [--config.FIELD=VALUE ...] [--data_dir=DIR] [--fork_from=DIR]

With no flags it trains on the digits that come with isojax. Exit codes: 0 finished,
75 stopped by a signal and saved (the same command resumes the run), 2 a user's error.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from configs.base import PRESETS
from isojax import cli
from isojax.errors import UsageError
from isojax.stopping import STOPPED_EXIT_CODE, StopRequest

_CONFIG = cli.define_config(
    str(Path(__file__).parent / "configs" / "digits.py"),
    "Config file, and a preset after a colon.",
)
_WORKDIR = cli.define_path(
    "workdir",
    None,
    "Folder of the run; an unfinished run in it goes on. By default runs/DATA-PRESET.",
)
_DATA_DIR = cli.define_path(
    "data_dir",
    None,
    "Folder of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)


_FORK_FROM = cli.define_path(
    "fork_from",
    None,
    "Folder of another run. A new run starts from its newest checkpoint, with the "
    "present config and the record of its epochs.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Process 0, where several train together. Slurm and Open MPI need none of these "
    "three flags, TPU virtual machines --coordinator=auto alone, and "
    "python -m isojax.launch gives them.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def main() -> None:
    """Runs the training that the flags describe."""
    if any(argument.startswith("--config.preset") for argument in sys.argv[1:]):
        raise UsageError("the preset stands after the file; write --config=FILE:PRESET")
    config = cli.config_to_train(_CONFIG)
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


if __name__ == "__main__":
    cli.run(
        main,
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
