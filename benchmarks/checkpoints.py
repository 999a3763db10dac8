"""Measures the cost of checkpoints and prints two Markdown tables.

    python -m benchmarks.checkpoints [--json=FILE]

The first table compares epochs of the demo that begin with a save and end when the
checkpoint is on disk with epochs that save nothing; the two kinds alternate. The second
table shows, for the state of the demo and of ResNet-18, how long training waits for a
save, how long writing takes, and how long reading with verification takes.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.timing import (
    alternate,
    markdown,
    median,
    parse_arguments,
    spread,
    write_json,
)
from isojax.compilation import configure_cpu
from isojax.configs import cifar10, digits
from isojax.cpu_cores import cpu_cores
from isojax.training.checkpoint import Checkpoints
from isojax.training.synthetic_step import SyntheticStep

STEPS_PER_EPOCH, EPOCHS, SAVES = 62, 15, 5


def main() -> None:
    """Prints the tables."""
    arguments = parse_arguments(__doc__)
    configure_cpu()
    demo = SyntheticStep(digits.get_config())
    resnet = SyntheticStep(cifar10.get_config())
    with tempfile.TemporaryDirectory(prefix="isojax-") as folder:
        epochs = time_epochs(demo, Path(folder) / "epochs")
        rows = [
            time_saves("demo", demo, Path(folder) / "demo"),
            time_saves("ResNet-18 with EMA", resnet, Path(folder) / "resnet"),
        ]
    columns = ["state of", "MB", "training waits, s", "written, s", "read, s"]
    print(markdown(columns, rows))
    write_json(arguments.json, epochs)


def time_epochs(synthetic: SyntheticStep, workdir: Path) -> dict[str, list[float]]:
    """Prints the time that saving adds to an epoch; returns the seconds of all."""
    workdir.mkdir()
    checkpoints = Checkpoints(workdir)

    def train() -> None:
        for _ in range(STEPS_PER_EPOCH):
            float(synthetic.step()["loss"])

    def save_and_train() -> None:
        checkpoints.save(synthetic.state)
        train()
        checkpoints.wait()

    timings = alternate([train, save_and_train], EPOCHS)
    names, cores = ["without a checkpoint", "with a checkpoint"], cpu_cores()
    rows = [
        [
            name,
            f"{median(of_one).wall:.3f}",
            spread(of_one),
            f"{median(of_one).processor / cores:.3f}",
        ]
        for name, of_one in zip(names, timings, strict=True)
    ]
    columns = ["epoch of the demo", "seconds", "fastest to slowest", "CPU, s"]
    print(markdown(columns, rows))
    return {
        name: [timing.wall for timing in of_one]
        for name, of_one in zip(names, timings, strict=True)
    }


def time_saves(name: str, synthetic: SyntheticStep, workdir: Path) -> list[str]:
    """Measures saving and reading; returns a table row of medians."""
    seconds, size = [], 0
    for number in range(SAVES):
        folder = workdir / str(number)
        folder.mkdir(parents=True)
        start = time.perf_counter()
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(synthetic.state)
            copied = time.perf_counter()
        written = time.perf_counter()
        Checkpoints(folder).restore(synthetic.state)
        read = time.perf_counter()
        seconds.append((copied - start, written - start, read - written))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    wait, write, read = map(statistics.median, zip(*seconds, strict=True))
    return [name, f"{size / 1e6:.0f}", f"{wait:.3f}", f"{write:.2f}", f"{read:.2f}"]


if __name__ == "__main__":
    main()
