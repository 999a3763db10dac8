"""Times the start of the commands and prints a Markdown table.

    python -m benchmarks.startup [--json=FILE]

Times `train.py --help`, and `train.py` from its start to the first training step of the
demo: first with an empty cache of compiled programs, then with the cache that the first
start has filled. The table has the median, the fastest and the slowest repetition.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import (
    Timing,
    markdown,
    median,
    parse_arguments,
    spread,
    write_json,
)

ROOT = Path(__file__).parent.parent
REPETITIONS = 5
FIRST_STARTS = 2


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments(__doc__)
    timings: dict[str, list[Timing]] = {"train.py --help": []}
    for _ in range(REPETITIONS):
        timings["train.py --help"].append(help_shown())
    first = timings.setdefault("first step, empty cache", [])
    again = timings.setdefault("first step, warm cache", [])
    for _ in range(FIRST_STARTS):
        with tempfile.TemporaryDirectory() as folder:
            first.append(first_step(f"{folder}/first"))
            again += [first_step(f"{folder}/{n}") for n in range(REPETITIONS)]
    rows = [
        [name, f"{median(of_one).wall:.2f}", spread(of_one)]
        for name, of_one in timings.items()
    ]
    print(markdown(["until", "seconds", "fastest to slowest"], rows))
    walls = {name: [timing.wall for timing in ts] for name, ts in timings.items()}
    write_json(arguments.json, walls)


def help_shown() -> Timing:
    """Seconds that `train.py --help` takes."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    return Timing(time.perf_counter() - start, float("nan"))


def first_step(workdir: str) -> Timing:
    """Seconds until machine.json exists, which is written during the first step."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "train.py", f"--workdir={workdir}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as process:
        while not (Path(workdir) / "machine.json").exists():
            if process.poll() is not None:
                raise SystemExit(f"train.py exited with code {process.returncode}")
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.kill()
    return Timing(seconds, float("nan"))  # the processor time of the child is unknown


if __name__ == "__main__":
    main()
