"""The figure of accuracy over training."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from isojax.reporting.figures import BLUE, DPI, GREEN, ORANGE


def save_accuracy(path: Path, result: dict[str, Any]) -> None:
    """Draws the accuracies of a run's checkpoints.

    Args:
      path: of the picture.
      result: of an evaluation, with `curve`, `split` and the baselines' accuracies.
    """
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    curve = result["curve"]
    steps = [point["step"] for point in curve]
    style = {"marker": "o", "markersize": 4}
    if "accuracy" in curve[0]:
        values = [point["accuracy"] for point in curve]
        axis.plot(steps, values, color=BLUE, label="linear readout", **style)
    if "knn_accuracy" in curve[0]:
        k = next(iter(curve[0]["knn_accuracy"]))
        values = [point["knn_accuracy"][k] for point in curve]
        axis.plot(steps, values, color=ORANGE, label=f"{k}-NN", **style)
    if "online_accuracy" in curve[0]:
        values = [point["online_accuracy"] for point in curve]
        axis.plot(steps, values, color=GREEN, label="online probe", **style)
    if "accuracy" in curve[0]:
        for prefix, name, dashes in (
            ("raw_pixel", "raw pixels, linear", "--"),
            ("random_init", "random encoder, linear", ":"),
        ):
            value = result[f"{prefix}_accuracy"]
            axis.axhline(value, color="0.5", linestyle=dashes, linewidth=1, label=name)
    axis.set_xlabel("step")
    axis.set_ylabel(f"accuracy on the {result['split']} images")
    axis.set_title("What can be read out over training")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, framealpha=1.0, edgecolor="none")
    figure.savefig(path, dpi=DPI)
