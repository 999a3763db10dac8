"""Draws the figures of a run, without a display."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from isojax.reporting.pictures import as_shown
from isojax.runs import layout
from isojax.runs.history import History, floor_eigenvalues

# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
DPI = 120


def save_views(path: Path, images: np.ndarray, views: Sequence[np.ndarray]) -> None:
    """Draws a grid of images, each above its views, and saves both for the report.

    Args:
      path: the picture; the arrays are saved beside it.
      images: original images, uint8, shape (n, h, w, c). If they do not have one or
        three channels, the mean of the channels is drawn.
      views: views of several steps, alternately first and second, values in [0, 1],
        each of shape (n, h, w, c).
    """
    rows = {"image": images / 255.0}
    for number, view in enumerate(views):
        rows[f"step {number // 2 + 1}\nview {number % 2 + 1}"] = view
    figure = Figure(figsize=(0.8 * len(images) + 0.7, 0.8 * len(rows) + 0.4))
    axes = figure.subplots(len(rows), len(images), squeeze=False)
    for row, (name, row_images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(row, row_images, strict=True):
            pixels = np.clip(as_shown(image), 0, 1)
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle("Images and their augmented views", fontsize=10)
    figure.subplots_adjust(left=0.11, right=0.99, bottom=0.01, top=0.94)
    figure.savefig(path, dpi=DPI)
    pixels = np.round(255 * np.clip(np.stack(views), 0, 1)).astype(np.uint8)
    np.savez_compressed(
        path.with_name(layout.VIEWS_ARRAYS), images=images, views=pixels
    )


def save_figures(folder: Path, history: History, *, evaluation_name: str) -> None:
    """Draws learning curves, eigenvalues, participation ratio and tracked modes.

    Args:
      folder: folder of the pictures, which is created if it is missing.
      history: metrics and spectrum of the run.
      evaluation_name: name of the split that the online accuracy is measured on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "learning.png", _draw_learning, history, evaluation_name)
    _save(folder / "spectrum.png", _draw_spectrum, history)
    if history.is_tracked:
        _save(folder / "modes.png", _draw_tracked, history)
    _save(folder / "participation_ratio.png", _draw_participation_ratio, history)


def _save(path: Path, draw, *args) -> None:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    draw(axis, *args)
    for line in (line for axes in figure.axes for line in axes.lines):
        if np.size(line.get_xdata()) == 1:  # a single epoch has no line
            line.set_marker("o")
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(
        MaxNLocator(integer=True, steps=(1, 2, 5, 10), min_n_ticks=1)
    )
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)


def _draw_learning(axis: Axes, history: History, evaluation_name: str) -> None:
    epoch = history.column("epoch")
    axis.plot(epoch, history.column(layout.LOSS), color=BLUE)
    axis.set_ylabel("loss, summed over view orders", color=BLUE)
    measured = history.column(layout.ONLINE_ACCURACY)
    is_measured = ~np.isnan(measured)
    if not is_measured.any():
        axis.set_title("Loss")
        return
    accuracy = axis.twinx()
    accuracy.plot(epoch[is_measured], measured[is_measured], color=ORANGE)
    accuracy.set_ylabel(
        f"online accuracy on the {evaluation_name} images", color=ORANGE
    )
    accuracy.set_ylim(top=1.0)
    accuracy.spines["top"].set_visible(False)
    axis.set_title("Loss and accuracy of the online probe")


def _draw_spectrum(axis: Axes, history: History) -> None:
    epoch = history.column("epoch")
    spectrum = np.stack(history.eigenvalues)
    modes = spectrum.shape[1]
    _draw_modes(axis, epoch, spectrum)
    axis.set_title(f"All {modes} eigenvalues of the projections' correlation, sorted")


def _draw_tracked(axis: Axes, history: History) -> None:
    epoch = history.column("epoch")
    tracked = np.stack(history.tracked)
    is_tracked = ~np.isnan(tracked).any(axis=1)
    _draw_modes(axis, epoch[is_tracked], tracked[is_tracked])
    axis.set_title("Eigenvalues of the tracked modes")


def _draw_modes(axis: Axes, epoch: np.ndarray, values: np.ndarray) -> None:
    colours = colormaps["viridis"](np.linspace(0, 0.95, values.shape[1]))
    for line, colour in zip(floor_eigenvalues(values).T, colours, strict=True):
        axis.plot(epoch, line, color=colour, linewidth=0.9)
    axis.set_yscale("log")
    axis.set_ylabel("eigenvalue of the correlation")


def _draw_participation_ratio(axis: Axes, history: History) -> None:
    epoch = history.column("epoch")
    modes = len(history.eigenvalues[0])
    axis.plot(
        epoch,
        history.column(layout.PARTICIPATION_RATIO),
        color=GREEN,
        label="measured",
    )
    axis.axhline(modes, color="0.6", linestyle="--", linewidth=1)
    axis.axhline(1, color="0.6", linestyle=":", linewidth=1)
    axis.annotate("all modes equal", (epoch[0], modes), color="0.4", va="bottom")
    axis.annotate("collapse to one mode", (epoch[0], 1), color="0.4", va="bottom")
    axis.set_yscale("log")
    axis.set_ylabel("participation ratio (Σs)² / Σs²")
    axis.set_title("Participation ratio of the projections")
