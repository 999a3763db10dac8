"""Makes random image sets and reads the folders of runs, for accelerator.sh.

python -m benchmarks.accelerator.runs images DIR NUMBER
python -m benchmarks.accelerator.runs demo RUN TRAIN_SECONDS EVALUATION_SECONDS
python -m benchmarks.accelerator.runs feeds DEVICE_RUN HOST_RUN
python -m benchmarks.accelerator.runs equal RUN OTHER_RUN
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing import markdown
from isojax.data.cache import write_images

# What depends on the clock.
_TIMES = {"train/images_per_second"}


def main() -> None:
    """Calls the function that the first argument names with the others."""
    name, *arguments = sys.argv[1:]
    commands: dict[str, Callable[..., str]] = {
        "images": images,
        "demo": demo,
        "feeds": feeds,
        "equal": equal,
    }
    print(commands[name](*arguments), end="")


def images(folder: str, number: str) -> str:
    """Writes random images under the name of CIFAR-10 as a prepared data set."""
    rng = np.random.default_rng(0)
    labels = [f"class {index}" for index in range(10)]
    for split, size in (("train", int(number)), ("test", int(number) // 50)):
        pixels = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        classes = np.arange(size, dtype=np.int32) % len(labels)
        path = Path(folder) / "isojax" / "cifar10-32" / split
        path.parent.mkdir(parents=True, exist_ok=True)
        write_images(
            path,
            [(pixels, classes)],
            image_shape=pixels.shape[1:],
            label_names=labels,
            splits=("train", "test"),
        )
    return ""


def demo(run: str, train_seconds: str, evaluation_seconds: str) -> str:
    """The table of the demo."""
    rows = _rows(run)
    result = json.loads((Path(run) / "linear_eval.json").read_text())
    rates = [row["train/images_per_second"] for row in rows[1:]]
    values = {
        "`train.py`, from start to exit, s": train_seconds,
        "epochs": len(rows),
        "images/s, median of the epochs": f"{np.median(rates):,.0f}",
        "last loss": f"{rows[-1]['train/loss']:.4f}",
        "`eval_linear.py`, from start to exit, s": evaluation_seconds,
    }
    for encoder in ("", "random_init_", "raw_pixel_"):
        values[f"{encoder}accuracy"] = f"{result[f'{encoder}accuracy']:.3f}"
        for neighbours, accuracy in result[f"{encoder}knn_accuracy"].items():
            values[f"{encoder}{neighbours}-NN accuracy"] = f"{accuracy:.3f}"
    cells = [[name, str(value)] for name, value in values.items()]
    return f"\n### Demo\n\n{markdown(['what', 'value'], cells)}"


def feeds(device_run: str, host_run: str) -> str:
    """The table of the runs fed from device and from host memory."""
    runs = {"device": _rows(device_run), "host": _rows(host_run)}
    cells = []
    for name, rows in runs.items():
        rates = [row.get("train/images_per_second", np.nan) for row in rows]
        losses = [row["train/loss"] for row in rows]
        cells.append(
            [
                name,
                str(rows[-1]["step"]),
                ", ".join(f"{rate:,.0f}" for rate in rates),
                ", ".join(f"{loss:.9g}" for loss in losses),
            ]
        )
    columns = ["`config.data.feed`", "steps", "images/s, each epoch", "losses"]
    differences = [
        abs(a["train/loss"] - b["train/loss"])
        for a, b in zip(runs["device"], runs["host"], strict=True)
    ]
    return (
        f"\n### CIFAR-10's recipe on random images\n\n{markdown(columns, cells)}\n"
        f"The losses differ by at most {max(differences):.2g}.\n"
    )


def equal(run: str, other: str) -> str:
    """How two runs of one config differ: their metrics and eigenvalues."""
    rows, others = _rows(run), _rows(other)
    if len(rows) != len(others):
        return f"{len(rows)} and {len(others)} epochs\n"
    names = sorted(set(rows[0]) - _TIMES)
    different = {
        name
        for name in names
        for a, b in zip(rows, others, strict=True)
        if a.get(name) != b.get(name)
    }
    spectra = [
        np.load(Path(path) / "spectrum.npz")["eigenvalues"] for path in (run, other)
    ]
    if not different and np.array_equal(*spectra):
        return f"equal bit for bit in {len(rows)} epochs, {len(names)} metrics\n"
    loss = max(
        abs(a["train/loss"] / b["train/loss"] - 1)
        for a, b in zip(rows, others, strict=True)
    )
    first = next(
        (
            a["epoch"]
            for a, b in zip(rows, others, strict=True)
            if a["train/loss"] != b["train/loss"]
        ),
        "none",
    )
    return (
        f"{len(different)} of {len(names)} metrics differ; the loss by up to {loss:.1e}"
        f" (first in epoch {first}), the eigenvalues by up to "
        f"{np.abs(spectra[0] - spectra[1]).max():.1e}\n"
    )


def _rows(run: str) -> list[dict[str, float]]:
    lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
