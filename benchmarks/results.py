"""Reproduces the README's table: every method on the digits, with and without EMA.

    python -m benchmarks.results

Each run has a folder under results/runs; finished ones are not repeated, interrupted
ones go on. Writes results/digits.csv and results/digits.md.
"""

import csv
import json
import math
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
SEEDS = {"directpred_noema": 3, "isoloss_noema": 3}
# simsiam_ema is byol_ema and byol_noema is simsiam_noema, so each runs once.
PRESETS = {
    "byol_ema": "BYOL (= SimSiam with EMA)",
    "simsiam_noema": "SimSiam (= BYOL without EMA)",
    "directpred_ema": "DirectPred",
    "directpred_noema": "DirectPred",
    "directcopy_ema": "DirectCopy",
    "directcopy_noema": "DirectCopy",
    "isoloss_ema": "IsoLoss, cosine",
    "isoloss_noema": "IsoLoss, cosine",
    "isoloss_euclidean_ema": "IsoLoss, Euclidean",
    "isoloss_euclidean_noema": "IsoLoss, Euclidean",
}


def main() -> None:
    """Runs what is missing, then writes the tables."""
    rows = []
    runs = [(preset, s) for preset in PRESETS for s in range(SEEDS.get(preset, 1))]
    for number, (preset, seed) in enumerate(runs, start=1):
        print(f"[{number}/{len(runs)}] {preset}, seed {seed}", flush=True)
        rows.append(run(preset, seed))
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "digits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = markdown(rows)
    (RESULTS / "digits.md").write_text(table)
    print(table)


def run(preset: str, seed: int) -> dict[str, Any]:
    """One row of the table: trains and evaluates where that is still to do."""
    workdir = RESULTS / "runs" / f"{preset}-{seed}"
    result_path, seconds_path = workdir / "linear_eval.json", workdir / "seconds.json"
    row = {"preset": preset, "seed": seed, "status": "ok"}
    if not result_path.exists():
        start = time.perf_counter()
        train = [
            "train.py",
            f"--config=configs/digits.py:{preset}",
            f"--config.seed={seed}",
            f"--workdir={workdir}",
        ]
        evaluate = ["eval_linear.py", f"--workdir={workdir}"]
        for command in (train, evaluate):
            ended = subprocess.run(
                [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
            )
            if ended.returncode:
                print(ended.stderr, file=sys.stderr)
                diverged = "training diverged" in ended.stderr
                return row | {"status": "diverged" if diverged else "crashed"}
        seconds_path.write_text(json.dumps(time.perf_counter() - start))
    last_epoch = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    config = json.loads((workdir / "config.json").read_text())
    result = json.loads(result_path.read_text())
    row |= {
        "linear": result["accuracy"],
        "knn_20": result["knn_accuracy"]["20"],
        "participation_ratio": last_epoch["train/participation_ratio"],
        "std": last_epoch["train/std"],
        "seconds": round(json.loads(seconds_path.read_text())),
    }
    healthy_std = 1 / math.sqrt(config["model"]["projection_dim"])
    if row["participation_ratio"] < 1.5 or row["std"] < 0.1 * healthy_std:
        row["status"] = "collapsed"
    return row


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows, averaged over seeds, as a Markdown table."""
    lines = [
        "| method | EMA | linear | 20-NN | participation ratio | seconds | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset, name in PRESETS.items():
        group = [row for row in rows if row["preset"] == preset]
        done = [row for row in group if "linear" in row]
        failed = Counter(row["status"] for row in group if row["status"] != "ok")
        failures = ", ".join(f"{count} {status}" for status, count in failed.items())
        status = f"{len(group)}" + (f" ({failures})" if failures else "")
        cells = [
            _mean_and_sd([row[column] for row in done], digits)
            for column, digits in (
                ("linear", 3),
                ("knn_20", 3),
                ("participation_ratio", 1),
                ("seconds", 0),
            )
        ]
        ema = "no" if preset.endswith("_noema") else "yes"
        lines.append(f"| {' | '.join([name, ema, *cells, status])} |")
    return "\n".join(lines) + "\n"


def _mean_and_sd(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


if __name__ == "__main__":
    main()
