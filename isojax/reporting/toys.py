"""Figures of the toy experiments, from the arrays of `isojax.dynamics.toys`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isojax.dynamics.input_spectra import InputSpectrumCurves
from isojax.dynamics.toys import Curves, Portrait
from isojax.reporting.figures import BLUE, ORANGE

_GREY = "0.45"
_SIMULATION: dict[str, Any] = {"color": ORANGE, "linewidth": 3.0}


def title(name: str) -> str:
    """Returns the title of a loss, such as "Cosine, no predictor"."""
    metric = "cosine" if "cosine" in name else "Euclidean"
    if name.startswith("iso_"):
        return f"Iso-{metric}"
    _, _, variant = name.partition("_no_")
    words = metric[0].upper() + metric[1:]
    return f"{words}, no {variant.replace('_', '-')}" if variant else words


def draw_eigenvalue_curves(curves: Mapping[str, Curves]) -> Figure:
    """Plots the predictor's eigenvalues over time, one panel per loss, theory dashed.

    The largest distance between network and theory is written under the panels.

    Args:
      curves: curves by name of the loss.

    Returns:
      The figure, with four panels per row.
    """
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.3 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        _draw_curves(axis, curve)
        axis.set_title(title(name), fontsize=10)
        top = max(1.2, 1.05 * float(np.max(curve.simulation)))
        axis.set_ylim(-0.03 * top, top)
    for axis in axes[-1]:
        axis.set_xlabel("time (1/rate)")
    for row in axes:
        row[0].set_ylabel("eigenvalue of $W_P$")
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    _add_legend(figure, list(curves.values()))
    return figure


def draw_initialization_curves(curves: Mapping[str, Sequence[Curves]]) -> Figure:
    """Plots two eigenvalues from several starts, one row per loss, theory dashed.

    Args:
      curves: curves of every start, by name of the loss.

    Returns:
      The figure.
    """
    columns = max(len(starts) for starts in curves.values())
    figure = Figure(
        figsize=(2.6 * columns, 2.3 * len(curves) + 0.3), layout="constrained"
    )
    axes = figure.subplots(len(curves), columns, squeeze=False, sharey="row")
    for row, (name, starts) in zip(axes, curves.items(), strict=True):
        for number, (axis, curve) in enumerate(zip(row, starts, strict=True), start=1):
            _draw_curves(axis, curve)
            axis.set_title(f"{title(name)}, start {number}", fontsize=10)
            axis.set_ylim(bottom=0)
        row[0].set_ylabel("eigenvalue of $W_P$")
    for axis in axes[-1]:
        axis.set_xlabel("time (1/rate)")
    _add_legend(figure, [curve for starts in curves.values() for curve in starts])
    return figure


def draw_input_spectrum_curves(
    curves: Mapping[str, InputSpectrumCurves], variances: Sequence[float]
) -> Figure:
    """Plots eigenvalues and weights over time, one column per loss, theory dashed.

    Args:
      curves: curves by name of the loss.
      variances: variances of the inputs' principal directions.

    Returns:
      The figure. The lower row shows the weights on each direction of the inputs.
    """
    figure = Figure(figsize=(2.6 * len(curves), 5.2), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    colours = colormaps["plasma"](np.linspace(0.9, 0, len(variances)))
    for (upper, lower), (name, found) in zip(axes.T, curves.items(), strict=True):
        _draw_curves(upper, found.eigenvalues)
        upper.set_title(title(name), fontsize=10)
        for column, variance, colour in zip(
            np.asarray(found.weights).T, variances, colours, strict=True
        ):
            lower.plot(
                found.eigenvalues.times, column, color=colour, label=f"{variance:g}"
            )
        lower.spines[["top", "right"]].set_visible(False)
        lower.set_xlabel("time (1/rate)")
    axes[0, 0].set_ylabel("eigenvalue of $W_P$")
    axes[1, 0].set_ylabel("squared weights")
    axes[1, -1].legend(
        title="input variance",
        frameon=False,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    _add_legend(figure, [found.eigenvalues for found in curves.values()])
    return figure


def draw_eigenvalue_portraits(
    portraits: Mapping[str, Portrait],
    simulations: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Figure:
    """Plots the population flow of two eigenvalues, solutions and trained networks.

    Args:
      portraits: portraits over (lam_1, lam_2), by name of the loss.
      simulations: trajectories of trained networks, shape (steps, 2), by name of the
        loss.

    Returns:
      The figure, with one panel per loss.
    """
    figure, axes = _portrait_axes(portraits)
    for axis, (name, portrait) in zip(axes, portraits.items(), strict=True):
        _draw_portrait(axis, portrait)
        axis.axline((0, 0), slope=1, color=_GREY, linestyle=":", linewidth=1)
        for path in (simulations or {}).get(name, ()):
            # Wide and below the theory, so that both are visible where they agree.
            axis.plot(*np.asarray(path).T, zorder=1.9, **_SIMULATION)
        axis.set(xlim=(0, portrait.x[-1]), ylim=(0, portrait.x[-1]))
        axis.set_title(title(name), fontsize=10)
        axis.set_xlabel("eigenvalue $\\lambda_1$")
    axes[0].set_ylabel("eigenvalue $\\lambda_2$")
    lines = {"theory": Line2D([], [], color=BLUE)}
    if simulations:
        lines["trained network"] = Line2D([], [], **_SIMULATION)
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def draw_representation_portraits(
    portraits: Mapping[str, Portrait], eigenvalues: Sequence[float]
) -> Figure:
    """Plots how a sample's two components move under a fixed predictor.

    Args:
      portraits: portraits over (z_1, z_2), by name of the velocity.
      eigenvalues: eigenvalues of the predictor.

    Returns:
      The figure, with one panel per velocity.
    """
    figure, axes = _portrait_axes(portraits)
    for axis, (name, portrait) in zip(axes, portraits.items(), strict=True):
        _draw_portrait(axis, portrait)
        limits = (portrait.x[0], portrait.x[-1])
        axis.set(xlim=limits, ylim=limits, xlabel="$\\hat z_1$")
        axis.set_title(title(name), fontsize=10)
    axes[0].set_ylabel("$\\hat z_2$")
    lam = ", ".join(f"$\\lambda_{m}$ = {v:g}" for m, v in enumerate(eigenvalues, 1))
    figure.suptitle(f"Components of one representation, {lam}", fontsize=10)
    return figure


def draw_convergence_times(
    initial: np.ndarray, times: Mapping[str, np.ndarray]
) -> Figure:
    """Plots the time a weak mode takes to converge against its initial eigenvalue.

    Args:
      initial: initial eigenvalues, shape (starts,).
      times: times by name of the loss, shape (starts,).

    Returns:
      The figure, with the standard and iso losses of one metric per panel.
    """
    figure = Figure(figsize=(6.4, 2.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, metric in zip(axes, ("euclidean", "cosine"), strict=True):
        for name, colour, marker in (
            (metric, BLUE, "o"),
            (f"iso_{metric}", ORANGE, "s"),
        ):
            axis.loglog(
                initial,
                times[name],
                color=colour,
                marker=marker,
                markersize=3.5,
                label=title(name),
            )
        axis.set_xlabel("initial eigenvalue of the weak mode")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    axes[0].set_ylabel("time to converge (1/rate)")
    return figure


def _draw_curves(axis: Axes, curve: Curves) -> None:
    modes = curve.simulation.shape[1]
    colours = colormaps["viridis"](np.linspace(0.3, 0.95, modes))
    for mode, colour in enumerate(colours):
        axis.plot(curve.times, curve.simulation[:, mode], color=colour, linewidth=1.6)
        if curve.theory is not None:
            axis.plot(
                curve.times,
                curve.theory[:, mode],
                color="black",
                linestyle=(0, (4, 3)),
                linewidth=0.9,
            )
    axis.spines[["top", "right"]].set_visible(False)


def _draw_portrait(axis: Axes, portrait: Portrait) -> None:
    dx, dy = np.asarray(portrait.dx), np.asarray(portrait.dy)
    speed = np.hypot(dx, dy)
    # Arrows of equal length, shaded by speed, keep slow regions legible.
    scale = np.where(speed > 0, speed, 1)
    axis.quiver(
        portrait.x,
        portrait.x,
        dx / scale,
        dy / scale,
        np.log10(np.maximum(speed, 1e-6 * max(speed.max(), 1e-30))),
        cmap="Greys",
        clim=(np.log10(max(speed.max(), 1e-30)) - 4, np.log10(max(speed.max(), 1e-30))),
        pivot="mid",
        scale=1.25 * len(portrait.x),
        width=0.005,
    )
    for path in np.asarray(portrait.trajectories):
        axis.plot(*path.T, color=BLUE, linewidth=1.2)
        axis.plot(*path[0], color=BLUE, marker="o", markersize=3)
    axis.set_aspect("equal")


def _portrait_axes(portraits: Mapping[str, Portrait]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(2.7 * len(portraits), 3.3), layout="constrained")
    return figure, figure.subplots(1, len(portraits), squeeze=False)[0]


def _add_legend(figure: Figure, curves: Sequence[Curves]) -> None:
    colour = colormaps["viridis"](0.4)
    lines = {"trained network": Line2D([], [], color=colour, linewidth=1.6)}
    distances = [curve.distance for curve in curves if curve.distance is not None]
    title = None
    if distances:
        lines["theory"] = Line2D([], [], color="black", linestyle="--", linewidth=0.9)
        title = f"largest distance between network and theory: {max(distances):.2g}"
    figure.legend(
        lines.values(),
        lines,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        title=title,
    )
