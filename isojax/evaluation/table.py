"""The result of an evaluation as text."""

from typing import Any

from isojax.runs.evaluation_result import ENCODERS


def format_table(result: dict[str, Any], *, per_class: bool = False) -> str:
    """The result of `evaluate_run` as a table to print.

    Args:
      result: what `linear_eval.json` holds.
      per_class: whether to show the accuracy on each class.
    """
    ks = list(result.get("knn_accuracy", ()))
    lines = []
    if "accuracy" in result or ks:
        lines.append(f"{'':20}" + _heads(result, ks))
        for prefix, name in ENCODERS.items():
            lines.append(f"{name:20}" + _cells(result, ks, prefix))
    if "finetune_accuracy" in result:
        lines.append(
            f"{'fine-tuned encoder':20}{result['finetune_accuracy']:8.3f}  "
            f"learning rate {result['finetune_learning_rate']:g}"
        )
    if "online_accuracy" in result:
        lines.append(f"{'online probe':20}{result['online_accuracy']:8.3f}")
    lines.append(
        f"accuracy on {result['num_test']:,} {result['split']} images, "
        f"{result['num_train']:,} labelled images for the readout"
    )
    if "knn_temperature" in result:
        lines.append(
            "k-NN: a neighbour of cosine similarity s has exp(s / "
            f"{result['knn_temperature']:g}) votes"
        )
    if "num_test_pretrained" in result:
        lines.append(
            f"Note: the encoder was pretrained on {result['num_test_pretrained']:,} of "
            f"the {result['num_test']:,} {result['split']} images."
        )
    lines += _fractions(result.get("label_fractions", []))
    lines += _curve(result.get("curve", []))
    if per_class:
        lines += _per_class(result.get("per_class_accuracy", {}))
    return "\n".join(lines)


def _heads(row: dict[str, Any], ks: list[str]) -> str:
    linear = f"{'linear':>8}" if "accuracy" in row else ""
    return linear + "".join(f"{k + '-NN':>9}" for k in ks)


def _cells(row: dict[str, Any], ks: list[str], prefix: str = "") -> str:
    linear = f"{row[f'{prefix}accuracy']:8.3f}" if "accuracy" in row else ""
    return linear + "".join(f"{row[f'{prefix}knn_accuracy'][k]:9.3f}" for k in ks)


def _fractions(rows: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        ks = list(row.get("knn_accuracy", ()))
        tuned = "finetune_accuracy" in row
        if not lines:
            heads = _heads(row, ks) + f"{'fine-tuned':>12}" * tuned
            lines.append(f"\n{'labelled images':20}{heads}")
            lines[0] += f"{'random':>9}{'pixels':>9}" * ("accuracy" in row)
        line = f"{row['num_train']:,} ({row['fraction']:.2%})"
        line = f"{line:20}" + _cells(row, ks)
        if tuned:
            line += f"{row['finetune_accuracy']:12.3f}"
        if "accuracy" in row:
            line += f"{row['random_init_accuracy']:9.3f}"
            line += f"{row['raw_pixel_accuracy']:9.3f}"
        lines.append(line)
    return lines


def _curve(points: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for point in points:
        ks = list(point.get("knn_accuracy", ()))
        online = "online_accuracy" in point
        if not lines:
            lines.append(f"\n{'step':20}{_heads(point, ks)}" + "   online" * online)
        line = f"{point['step']:<20,}" + _cells(point, ks)
        lines.append(line + (f"{point['online_accuracy']:9.3f}" if online else ""))
    return lines


def _per_class(accuracies: dict[str, float]) -> list[str]:
    """Five classes a line, the worst first."""
    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    cells = [f"{name[:14]} {accuracy:.3f}" for name, accuracy in ordered]
    rows = [cells[first : first + 5] for first in range(0, len(cells), 5)]
    return ["", *("".join(f"{cell:22}" for cell in row).rstrip() for row in rows)]
