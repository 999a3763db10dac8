"""Timing functions in turn, and tables of what came out."""

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
    """Seconds of one call, by the clock and of processor time.

    Other programs on the same machine disturb the second less. Divided by the number of
    cores it is what the call would take on a quiet machine, if all cores were busy.
    """

    wall: float
    processor: float


def alternate(
    works: Sequence[Callable[[], Any]], repetitions: int
) -> list[list[Timing]]:
    """Timings of each function, called in turn, the first calls not counted.

    Args:
      works: functions; arrays of JAX that they return are waited for.
      repetitions: counted calls of each.

    Returns:
      For each function its timings.
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
    """The median of the clock's and of the processor's seconds."""
    return Timing(*(statistics.median(column) for column in zip(*timings, strict=True)))


def spread(timings: Sequence[Timing], unit: float = 1.0) -> str:
    """The fastest and the slowest by the clock, divided by `unit`."""
    walls = [timing.wall / unit for timing in timings]
    return f"{min(walls):.3g} to {max(walls):.3g}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def parse_arguments(description: str) -> argparse.Namespace:
    """The command line of a benchmark: `--json=FILE`, where its numbers go too."""
    accept_all_characters()
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    return parser.parse_args()


def write_json(path: Path | None, results: Any) -> None:
    """Writes results, where a path was given."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")
