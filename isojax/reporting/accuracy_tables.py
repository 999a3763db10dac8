"""Accuracies out of `linear_eval.json`, of which any may be missing."""

import json
from typing import Any

from isojax.invocation import command
from isojax.runs.stored_run import StoredRun

ENCODERS = {
    "": "pretrained encoder",
    "random_init_": "random encoder",
    "raw_pixel_": "raw pixels",
}
# Protocols that only the pretrained encoder meets.
_ALONE = {"finetune_accuracy": "fine-tuned", "online_accuracy": "online probe"}


def evaluate_command(run: StoredRun) -> str:
    """The command that evaluates a run."""
    return command("evaluate", f"--workdir={run.folder}")


def accuracies(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Accuracies of an encoder or a baseline by protocol, of those that are there."""
    found = {"linear": evaluation.get(f"{prefix}accuracy")}
    for k, value in (evaluation.get(f"{prefix}knn_accuracy") or {}).items():
        found[f"{k}-NN"] = value
    if not prefix:
        found |= {name: evaluation.get(key) for key, name in _ALONE.items()}
    return {
        name: value for name, value in found.items() if isinstance(value, int | float)
    }


def accuracy_baselines(run: StoredRun) -> dict[str, float]:
    """What a linear classifier reads without training, to draw beside accuracies."""
    found = {
        ENCODERS[prefix]: run.evaluation.get(f"{prefix}accuracy")
        for prefix in ("random_init_", "raw_pixel_")
    }
    return {name: value for name, value in found.items() if value is not None}


def accuracy_table(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    """Accuracies beside the baselines', for the template; None where there are none."""
    found = {name: accuracies(evaluation, prefix) for prefix, name in ENCODERS.items()}
    columns = list(found["pretrained encoder"])
    if not columns:
        return None
    counts = [
        f"{evaluation[key]:,} {words}"
        for key, words in {
            "num_test": f"{evaluation.get('split', 'test')} images",
            "num_train": "labelled images to learn from",
        }.items()
        if isinstance(evaluation.get(key), int)
    ]
    notes = [f"Frozen features; {', '.join(counts)}."] if counts else []
    temperature = evaluation.get("knn_temperature")
    if isinstance(temperature, int | float):
        notes.append(
            f"k-NN: a neighbour of cosine similarity s has exp(s / {temperature:g}) "
            "votes."
        )
    seen = evaluation.get("num_test_pretrained")
    if isinstance(seen, int):
        notes.append(f"The encoder was pretrained on {seen:,} of the test images.")
    return {
        "columns": columns,
        "rows": [
            {"name": name, "numbers": [values.get(column) for column in columns]}
            for name, values in found.items()
            if values
        ],
        "note": " ".join(notes),
        "content": json.dumps(evaluation, indent=2, ensure_ascii=False),
    }


def fractions_table(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    """Accuracies from a part of the labels, if they were measured, for the template."""
    rows = evaluation.get("label_fractions") or []
    if not rows:
        return None
    columns = list(accuracies(rows[0]))
    return {
        "columns": columns,
        "rows": [
            {
                "name": f"{row['num_train']:,} ({row['fraction']:.3g} of all)",
                "numbers": [accuracies(row).get(column) for column in columns],
            }
            for row in rows
        ],
    }
