"""Times the demo in a local folder and in an emulated bucket and prints a table.

    python -m benchmarks.bucket [--json=FILE]

Needs requirements-buckets.txt. The runs alternate, eight epochs each with a save at
every fourth. The time of an epoch is the mean over all epochs but the first. The start
is the time from the command to the end of the first epoch. The first run in each
location compiles its programs; the others read them from the cache. The emulator, which
tests/reliability starts, runs on the same machine and takes a part of its processors.
"""

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.timing import markdown, parse_arguments, write_json
from tests.reliability.gcs_server import GcsServer

PAIRS, EPOCHS = 4, 8


def main() -> None:
    """Prints a row for each pair of runs."""
    arguments = parse_arguments(__doc__)
    columns = ["start, s", "in the bucket", "epoch, s", "in the bucket", "difference"]
    results, rows = [], []
    with GcsServer().running(), tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):
            local = time_run(f"{folder}/run{number}")
            remote = time_run(f"gs://bkt/runs/run{number}")
            results.append({"local": local, "bucket": remote})
            starts = [f"{local[0]:.1f}", f"{remote[0]:.1f}"]
            epochs = [f"{local[1]:.2f}", f"{remote[1]:.2f}"]
            rows.append([*starts, *epochs, f"{remote[1] / local[1] - 1:.1%}"])
    print(markdown(columns, rows))
    write_json(arguments.json, results)


def time_run(workdir: str) -> tuple[float, float]:
    """Trains; returns the seconds until the first epoch's end and those of an epoch."""
    command = [
        *(sys.executable, "train.py", f"--workdir={workdir}"),
        f"--config.epochs={EPOCHS}",
        "--config.checkpoint_every_epochs=4",
    ]
    start, ends = time.perf_counter(), []
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch "):
                ends.append(time.perf_counter())
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with code {process.returncode}")
    return ends[0] - start, (ends[-1] - ends[0]) / (len(ends) - 1)


if __name__ == "__main__":
    main()
