"""Formats the result of an evaluation as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from isojax.runs.evaluation_result import (
    ENCODERS,
    LINEAR,
    RANDOM_INIT,
    RAW_PIXELS,
    EvaluationResult,
)

_NAME_WIDTH, _COLUMN_WIDTH = 20, 9  # characters


def format_table(result: dict[str, Any], *, per_class: bool = False) -> str:
    """Formats the result of `evaluate_run` as a table to print.

    Args:
      result: the content of `linear_eval.json`.
      per_class: whether to show the accuracy on each class.

    Returns:
      The lines of the table and its notes.
    """
    parsed = EvaluationResult.from_json(result)
    rows = [(name, parsed.accuracies[prefix]) for prefix, name in ENCODERS.items()]
    lines = _table("", [row for row in rows if row[1]])
    lines.append(
        f"accuracy on {result['num_test']:,} {result['split']} images, "
        f"{result['num_train']:,} labelled images for the readout"
    )
    if "knn_temperature" in result:
        lines.append(
            "k-NN: a neighbour of cosine similarity s has exp(s / "
            f"{result['knn_temperature']:g}) votes"
        )
    if "finetune_learning_rate" in result:
        lines.append(f"fine-tuned: learning rate {result['finetune_learning_rate']:g}")
    if "num_test_pretrained" in result:
        lines.append(
            f"Note: the encoder was pretrained on {result['num_test_pretrained']:,} of "
            f"the {result['num_test']:,} {result['split']} images."
        )
    if parsed.label_fractions:
        lines += ["", *_table("labelled images", _label_fractions(parsed))]
    if parsed.curve:
        points = [(f"{point.step:,}", point.accuracies) for point in parsed.curve]
        lines += ["", *_table("step", points)]
    if per_class:
        lines += _per_class(result.get("per_class_accuracy", {}))
    return "\n".join(lines)


def _table(head: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Formats rows of accuracies under the names of all protocols in them."""
    columns = list(dict.fromkeys(name for _, values in rows for name in values))
    widths = {name: max(_COLUMN_WIDTH, len(name) + 2) for name in columns}
    cells = [f"{name:>{widths[name]}}" for name in columns]
    lines = [f"{head:{_NAME_WIDTH}}" + "".join(cells)] if columns else []
    for title, values in rows:
        cells = [
            f"{values[name]:{widths[name]}.3f}"
            if name in values
            else " " * widths[name]
            for name in columns
        ]
        lines.append(f"{title:{_NAME_WIDTH}}{''.join(cells)}".rstrip())
    return lines


def _label_fractions(result: EvaluationResult) -> list[tuple[str, dict[str, float]]]:
    """Returns the encoder's accuracies, and the linear ones of the baselines."""
    rows = []
    for part, content in zip(
        result.label_fractions, result.content["label_fractions"], strict=True
    ):
        values = dict(part.accuracies)
        for prefix, name in ((RANDOM_INIT, "random"), (RAW_PIXELS, "pixels")):
            accuracy = content.get(f"{prefix}accuracy")
            if LINEAR in values and accuracy is not None:
                values[name] = accuracy
        rows.append((f"{part.num_train:,} ({part.fraction:.2%})", values))
    return rows


def _per_class(accuracies: dict[str, float]) -> list[str]:
    """Formats five classes per line, the lowest accuracy first."""
    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    cells = [f"{name[:14]} {accuracy:.3f}" for name, accuracy in ordered]
    rows = [cells[first : first + 5] for first in range(0, len(cells), 5)]
    return ["", *("".join(f"{cell:22}" for cell in row).rstrip() for row in rows)]
