"""The report's tables of accuracies."""

import json
from typing import Any

from isojax.invocation import command
from isojax.runs.evaluation_result import ENCODERS, EvaluationResult
from isojax.runs.stored_run import StoredRun


def evaluate_command(run: StoredRun) -> str:
    """Returns the command that evaluates a run."""
    return command("evaluate", f"--workdir={run.folder}")


def accuracy_table(evaluation: EvaluationResult) -> dict[str, Any] | None:
    """Returns the accuracies of the encoder and the baselines for the template.

    Args:
      evaluation: the run's evaluation.

    Returns:
      The fields; None if the run was not evaluated.
    """
    columns = list(evaluation.pretrained)
    if not columns:
        return None
    counts = []
    if evaluation.num_test is not None:
        counts.append(f"{evaluation.num_test:,} {evaluation.split or 'test'} images")
    if evaluation.num_train is not None:
        counts.append(f"{evaluation.num_train:,} labelled images to learn from")
    notes = [f"Frozen features; {', '.join(counts)}."] if counts else []
    if evaluation.knn_temperature is not None:
        notes.append(
            "k-NN: a neighbour of cosine similarity s has exp(s / "
            f"{evaluation.knn_temperature:g}) votes."
        )
    if evaluation.num_test_pretrained is not None:
        notes.append(
            f"The encoder was pretrained on {evaluation.num_test_pretrained:,} of the "
            "test images."
        )
    return {
        "columns": columns,
        "rows": [
            {"name": name, "numbers": [values.get(column) for column in columns]}
            for encoder, name in ENCODERS.items()
            if (values := evaluation.accuracies[encoder])
        ],
        "note": " ".join(notes),
        "content": json.dumps(evaluation.content, indent=2, ensure_ascii=False),
    }


def fractions_table(evaluation: EvaluationResult) -> dict[str, Any] | None:
    """Returns the accuracies with part of the labelled images for the template.

    Args:
      evaluation: the run's evaluation.

    Returns:
      The fields; None if they were not measured.
    """
    rows = evaluation.label_fractions
    if not rows:
        return None
    columns = list(rows[0].accuracies)
    return {
        "columns": columns,
        "rows": [
            {
                "name": f"{row.num_train:,} ({row.fraction:.3g} of all)",
                "numbers": [row.accuracies.get(column) for column in columns],
            }
            for row in rows
        ],
    }
