"""Pretrains and evaluates one run of a sweep, in its own process.

    python -m isojax.commands.sweep_worker --config=FILE:PRESET --workdir=DIR [...]

With one process for each run, a crash does not affect other runs, and all memory is
released. Runs share a cache of compiled programs, so that few are compiled again. Raw
pixels, which can take longer than the encoder, are not measured again either.
"""

import os
import signal
import sys
import threading

from isojax.commands import command_line, config_flag, path_flag
from isojax.runs import layout
from isojax.runs.mirror import local_folder
from isojax.stopping import STOPPED_EXIT_CODE, StopRequest

_CONFIG = config_flag.define_config(
    "digits", "Config, optionally followed by a colon and a preset."
)
_WORKDIR = path_flag.define_path("workdir", None, "Directory of the run.")
_DATA_DIR = path_flag.define_path("data_dir", None, "Directory of the data sets.")


def main() -> None:
    """Trains and evaluates a run with the settings of the flags.

    Exits with `STOPPED_EXIT_CODE` if a signal stops it before it is evaluated.
    """
    with StopRequest() as stop:
        _train_and_evaluate(stop)
        if stop.is_set:
            sys.exit(STOPPED_EXIT_CODE)


def _train_and_evaluate(stop: StopRequest) -> None:
    from isojax import processes
    from isojax.compilation import configure_cpu, enable_compilation_cache
    from isojax.evaluation import Options, evaluate_run
    from isojax.sweeps.rows import has_raw_pixels
    from isojax.training import pretrain

    _end_with_parent()
    configure_cpu()
    processes.check_platform()
    workdir = _WORKDIR.value
    with local_folder(workdir) as folder:
        for name in (layout.RESULT_FILE, layout.NOT_FINITE_FILE):  # of earlier attempts
            (folder / name).unlink(missing_ok=True)
    enable_compilation_cache(workdir)
    pretrain(
        config_flag.config_to_train(_CONFIG),
        workdir,
        data_dir=_DATA_DIR.value,
        stop=stop,
    )
    if stop.is_set:
        return
    stop.ends_at_once = True  # an evaluation has no state to save
    with local_folder(workdir) as folder:
        options = Options(raw_pixels=False if has_raw_pixels(folder) else None)
    evaluate_run(workdir, data_dir=_DATA_DIR.value, options=options)


def _end_with_parent() -> None:
    """Sends this process SIGTERM once the sweep that started it has ended.

    Standard input is a pipe, which ends when the sweep ends.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # reading sys.stdin would lock it at exit
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    command_line.run(main)
