"""One run of a sweep, in a process of its own: pretraining, then evaluation.

    python -m isojax.sweeps.worker --config=FILE:PRESET --workdir=DIR [...]

A process a run gives all memory back at its end, and one that crashes takes no other
with it. Compiling again costs little, as compiled programs are kept beside the runs.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from isojax import cli

_CONFIG = cli.define_config("", "Config file, and a preset after a colon.")
_WORKDIR = cli.define_path("workdir", None, "Folder of the run.")
_DATA_DIR = cli.define_path("data_dir", None, "Folder of the data sets.")


def main() -> None:
    """Trains and evaluates the run that the flags describe."""
    from isojax import parallel
    from isojax.compilation import choose_kernels, keep_programs
    from isojax.evaluation import evaluate_run
    from isojax.evaluation.protocol import RESULT_FILE
    from isojax.training import pretrain
    from isojax.training.health import REPORT_FILE
    from isojax.training.stopping import StopRequest

    _end_with_parent()
    choose_kernels()
    parallel.check_platform()
    workdir = Path(_WORKDIR.value)
    for name in (RESULT_FILE, REPORT_FILE):  # of an earlier attempt
        (workdir / name).unlink(missing_ok=True)
    keep_programs(workdir)
    with StopRequest() as stop:
        pretrain(
            cli.config_to_train(_CONFIG), workdir, data_dir=_DATA_DIR.value, stop=stop
        )
    if stop.wished:
        return
    evaluate_run(workdir, data_dir=_DATA_DIR.value)


def _end_with_parent() -> None:
    """Stops this process, as by SIGTERM, once the sweep that started it lives no more.

    The sweep holds the other end of standard input and writes nothing.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # sys.stdin itself would be locked at the end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    cli.run(main)
