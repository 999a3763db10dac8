"""The training step, compiled for accelerators that need not be present.

    python -m benchmarks.accelerators [--folder=runs/accelerators] [--only=TEXT ...]
                                      [--table]

Compiles the programs of `PROGRAMS` with `isojax profile --target`, one after the other,
and prints a Markdown table. A program that has been compiled with the same source files
and version of JAX is not compiled again. `--table` compiles nothing. See
requirements-accelerators.txt for the libraries.

Programs that are left out because they differ only in numbers or in the shape of one
array: `cifar100` is `cifar10` with 100 classes instead of 10 in the online probe;
`imagenet100` is `imagenet` with other images; `simsiam` is `byol` without the moving
average; `directpred` and `directcopy` have the same products and collectives as
`isoloss`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "accelerators"
_REFUSED = 2  # exit code of a user error, such as a step that does not fit


class Program(NamedTuple):
    """A training step to compile.

    Attributes:
      config: name of a config, with a preset.
      precision: `config.precision`.
      target: the accelerators.
    """

    config: str
    precision: str
    target: str

    @property
    def name(self) -> str:
        """A name that is also the name of a file."""
        return "_".join(self).replace(":", "-")

    @property
    def arguments(self) -> list[str]:
        """Arguments of `isojax profile`."""
        return [
            f"--config={self.config}",
            f"--config.precision={self.precision}",
            f"--target={self.target}",
        ]


def _programs() -> Iterator[Program]:
    """Yields the programs, the most informative first."""
    for target in ("gpu:h100:8", "tpu:v5e:2x2"):
        for preset in ("isoloss", "isoloss_noema"):
            for precision in ("bfloat16", "float32"):
                yield Program(f"cifar10:{preset}", precision, target)
        yield Program("cifar10:byol", "bfloat16", target)
    for target in ("gpu:h100:1", "tpu:v5e:1x1"):
        yield Program("cifar10:isoloss", "bfloat16", target)
        yield Program("cifar10:isoloss", "float32", target)
    # Two hosts each; the second is also the slice of v4.
    yield Program("cifar10:isoloss", "bfloat16", "gpu:h100:16")
    yield Program("cifar10:isoloss", "bfloat16", "tpu:v4:2x2x2")
    yield Program("cifar10:isoloss", "float32", "tpu:v4:2x2x2")
    for config in ("stl10", "tinyimagenet"):
        for target in ("gpu:h100:8", "tpu:v5e:2x2"):
            yield Program(f"{config}:isoloss", "float32", target)
    # 4,096 images in 16 microbatches; and 512 at once.
    yield Program("imagenet:official", "bfloat16", "gpu:h100:8")
    yield Program("imagenet:isoloss", "bfloat16", "gpu:h100:8")
    yield Program("imagenet:isoloss", "bfloat16", "tpu:v5e:4x4")


PROGRAMS = tuple(_programs())


def result_path(program: Program, folder: Path = FOLDER) -> Path:
    """Returns the file with the result of a program, for the current source files."""
    content = hashlib.sha256(metadata.version("jax").encode())
    for path in sorted((ROOT / "isojax").rglob("*.py")):
        content.update(path.read_bytes())
    return folder / content.hexdigest()[:12] / f"{program.name}.json"


def compile_program(program: Program, folder: Path = FOLDER) -> dict[str, Any]:
    """Returns what `isojax profile --target --json` finds, compiling at most once.

    Returns:
      The costs, or `error` with the message if the command refuses the program.

    Raises:
      subprocess.CalledProcessError: if the command fails.
    """
    path = result_path(program, folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        finished = run_module("isojax.profile", *program.arguments, f"--json={path}")
        if finished.returncode not in (0, _REFUSED):
            print(finished.stderr, file=sys.stderr)
            finished.check_returncode()
        if not path.exists():
            path.write_text(json.dumps({"error": finished.stderr.strip()}))
    return json.loads(path.read_text())


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a module in a process of its own, without the XLA flags of this one."""
    variables = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
    )


def table_row(program: Program, result: Mapping[str, Any]) -> str:
    """Returns the row of a program in the table."""
    first = [f"`{program.config}`", program.precision, f"`{program.target}`"]
    if "error" in result:
        return f"| {' | '.join(first)} | {result['error']} |"
    seconds = result["roofline_seconds"]
    collectives = ", ".join(
        f"{found['number']} {kind} {found['bytes'] / 1e6:,.1f} MB"
        for kind, found in result["collectives"].items()
    )
    cells = [
        *first,
        str(result["hosts"]),
        f"{result['memory'] / 1e9:.2f}",
        f"{result['temporaries'] / 1e9:.2f}",
        f"{result['aliased'] / 1e6:,.1f}",
        f"{result['flops'] / 1e9:,.0f}",
        f"{result['bytes_accessed'] / 1e9:.1f}",
        f"{seconds * 1e3:.1f}",
        f"{result['batch_size'] / seconds:,.0f}",
        collectives or "none",
        f"{result['seconds_to_compile']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| config | precision | target | hosts | memory, GB | temporaries, GB | "
    "donated, MB | GFLOP | GB accessed | roofline, ms | images/s | collectives | "
    "compiled, s |"
)


def main() -> None:
    """Compiles the programs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of names")
    parser.add_argument("--table", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    print(HEADER)
    print("|" + " --- |" * (HEADER.count("|") - 1))
    for program in PROGRAMS:
        if not any(text in program.name for text in arguments.only):
            continue
        if arguments.table and not result_path(program, arguments.folder).exists():
            continue
        print(
            table_row(program, compile_program(program, arguments.folder)), flush=True
        )


if __name__ == "__main__":
    main()
