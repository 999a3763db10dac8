"""Times training steps and prints a Markdown table.

    python -m benchmarks.train_step [--json=FILE]

The method is IsoLoss with the cosine metric, on random images. Times are medians over
repetitions, without compilation. "CPU" is the processor time divided by the number of
cores, which is less sensitive to other programs on the machine.

If PyTorch is installed, a plain PyTorch version of the step (channels last) is timed
alternately with isojax, from the same weights, after checking that both compute the
same loss. The step of isojax includes the augmentation; PyTorch receives the views.
"""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.timing import (
    alternate,
    markdown,
    median,
    parse_arguments,
    spread,
    write_json,
)
from isojax.compilation import configure_cpu
from isojax.configs import cifar10, digits, imagenet, stl10
from isojax.cpu_cores import cpu_cores
from isojax.training.synthetic_step import SyntheticStep

HAS_TORCH = importlib.util.find_spec("torch") is not None
# Allowed difference of the two losses, by precision: they differ by rounding.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}


class Work(NamedTuple):
    """A training step to time.

    Attributes:
      name: name in the table.
      config: config of the run.
      side: side of the images, in pixels.
      batch: number of images per step.
      repetitions: number of timed steps.
    """

    name: str
    config: ConfigDict
    side: int
    batch: int
    repetitions: int


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments(__doc__)
    configure_cpu()
    columns = ["step", "ms", "fastest to slowest", "CPU, ms"]
    if HAS_TORCH:
        columns += ["PyTorch, ms", "CPU, ms", "ratio", "CPU ratio"]
    rows, results = [], []
    for work in works():
        row, result = measure(work)
        rows.append(row)
        results.append(result)
        print(f"{work.name}: {row[1]} ms", file=sys.stderr, flush=True)
    print(markdown(columns, rows))
    write_json(arguments.json, results)


def works() -> list[Work]:
    """The training steps to time."""
    cifar, noema = cifar10.get_config(), cifar10.get_config("isoloss_noema")
    mixed = cifar10.get_config()
    with mixed.unlocked():
        mixed.precision = "bfloat16"
    return [
        Work("demo, 28×28, batch 64", digits.get_config(), 28, 64, 30),
        Work("ResNet-18, 32×32, batch 32", cifar, 32, 32, 7),
        Work("ResNet-18, 32×32, batch 128", cifar, 32, 128, 3),
        Work("the same without EMA", noema, 32, 128, 3),
        Work("the same in bfloat16, with EMA", mixed, 32, 128, 3),
        Work("ResNet-18, 96×96 with STL-10's stem", stl10.get_config(), 96, 32, 5),
        Work("ResNet-50, 224×224, batch 32", imagenet.get_config(), 224, 32, 1),
    ]


def measure(work: Work) -> tuple[list[str], dict[str, Any]]:
    """Times one step; returns a row of the table and its numbers."""
    step, state, views = make_step(work)
    steps: list[Callable[[], object]] = [step]
    if HAS_TORCH:
        from benchmarks.torch_step import make_torch_step

        unread_step = make_torch_step(work.config, state, views)

        def torch_step() -> float:
            return float(unread_step())

        ours, theirs = step(), torch_step()
        tolerance = TOLERANCES[work.config.precision]
        if not np.isclose(ours, theirs, rtol=tolerance, atol=tolerance):
            raise SystemExit(f"{work.name}: loss {ours} in isojax, {theirs} in PyTorch")
        steps.append(torch_step)
    all_timings = alternate(steps, work.repetitions)
    cores = cpu_cores()
    medians = [median(timings) for timings in all_timings]
    row = [
        work.name,
        f"{medians[0].wall * 1e3:,.0f}",
        spread(all_timings[0], 1e-3),
        f"{medians[0].processor / cores * 1e3:,.0f}",
    ]
    result = {
        "work": work.name,
        "seconds": [timing.wall for timing in all_timings[0]],
        "processor_seconds": [timing.processor for timing in all_timings[0]],
    }
    if HAS_TORCH:
        row += [
            f"{medians[1].wall * 1e3:,.0f}",
            f"{medians[1].processor / cores * 1e3:,.0f}",
            f"{medians[1].wall / medians[0].wall:.2f}",
            f"{medians[1].processor / medians[0].processor:.2f}",
        ]
        result |= {
            "torch_seconds": [timing.wall for timing in all_timings[1]],
            "torch_processor_seconds": [timing.processor for timing in all_timings[1]],
        }
    return row, result


def make_step(work: Work) -> tuple[Callable[[], float], Any, list[np.ndarray]]:
    """A function that performs the next step, the first state, and the first views."""
    with work.config.unlocked():
        work.config.batch_size, work.config.data.resolution = work.batch, work.side
    synthetic = SyntheticStep(work.config)
    first = jax.device_get(synthetic.state)
    views = [np.asarray(view) for view in synthetic.views()]
    return lambda: float(synthetic.step()["loss"]), first, views


if __name__ == "__main__":
    main()
