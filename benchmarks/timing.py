"""Functions for timing benchmarks and printing tables."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from isojax.output import accept_all_characters


class Timing(NamedTuple):
    """Wall-clock seconds and processor seconds of one call.

    Processor time is less sensitive to other programs on the same machine. Divided by
    the number of cores, it is the time of the call on an idle machine, if it keeps all
    cores busy.
    """

    wall: float
    processor: float


def alternate(
    works: Sequence[Callable[[], Any]], repetitions: int
) -> list[list[Timing]]:
    """Timings of functions that are called alternately, without their first calls.

    Args:
      works: the functions. JAX arrays that they return are waited for.
      repetitions: number of timed calls of each function.

    Returns:
      One list of timings per function.
    """
    timings: list[list[Timing]] = [[] for _ in works]
    for repetition in range(1 + repetitions):
        for work, so_far in zip(works, timings, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(work())
            timing = Timing(time.perf_counter() - wall, time.process_time() - processor)
            if repetition > 0:
                so_far.append(timing)
    return timings


def median(timings: Sequence[Timing]) -> Timing:
    """The median wall-clock seconds and the median processor seconds."""
    return Timing(*(statistics.median(column) for column in zip(*timings, strict=True)))


def spread(timings: Sequence[Timing], unit: float = 1.0) -> str:
    """The fastest and the slowest wall-clock time, in units of `unit` seconds."""
    walls = [timing.wall / unit for timing in timings]
    return f"{min(walls):.3g} to {max(walls):.3g}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def parse_arguments(description: str) -> argparse.Namespace:
    """Parses the command line of a benchmark: `--json=FILE` writes its numbers."""
    accept_all_characters()
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    return parser.parse_args()


def write_json(path: Path | None, results: Any) -> None:
    """Writes the results as JSON if a path is given."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")
