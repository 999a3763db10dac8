"""The figure of accuracy over training."""

from pathlib import Path

from matplotlib.figure import Figure

from isojax.reporting.figures import BLUE, DPI, GREEN, ORANGE
from isojax.runs.evaluation_result import (
    ENCODERS,
    LINEAR,
    ONLINE_PROBE,
    RANDOM_INIT,
    RAW_PIXELS,
    EvaluationResult,
)

_NAMES = {LINEAR: "linear readout", ONLINE_PROBE: "online probe"}
_COLOURS = {LINEAR: BLUE, ONLINE_PROBE: GREEN}
_DASHES = {RAW_PIXELS: "--", RANDOM_INIT: ":"}


def save_accuracy(path: Path, result: EvaluationResult) -> None:
    """Draws the accuracies of a run's checkpoints.

    If k-NN was measured with several k, only the first is drawn.

    Args:
      path: the picture.
      result: an evaluation with at least one checkpoint in its `curve`.

    Raises:
      OSError: if the picture cannot be written.
    """
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    names = list(result.curve[0].accuracies)
    nearest = [name for name in names if name not in _NAMES]
    for name in names:
        if name in nearest[1:]:
            continue
        axis.plot(
            [point.step for point in result.curve],
            [point.accuracies[name] for point in result.curve],
            color=_COLOURS.get(name, ORANGE),
            label=_NAMES.get(name, name),
            marker="o",
            markersize=4,
        )
    if LINEAR in names:
        for encoder, dashes in _DASHES.items():
            if LINEAR in result.accuracies[encoder]:
                axis.axhline(
                    result.accuracies[encoder][LINEAR],
                    color="0.5",
                    linestyle=dashes,
                    linewidth=1,
                    label=f"{ENCODERS[encoder]}, linear",
                )
    axis.set_xlabel("training step")
    axis.set_ylabel(f"accuracy on the {result.split} images")
    axis.set_title("Accuracy during pretraining")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, framealpha=1.0, edgecolor="none")
    figure.savefig(path, dpi=DPI)
