"""Draws the report's charts of metrics and spectra."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from isojax.reporting.svg import HALO, MUTED, SERIES, drawing
from isojax.reporting.theory import Theory
from isojax.runs.history import floor_eigenvalues

_MAX_POINTS = 250  # of a line; more would not be visible, but enlarge the page
_MAX_LINES = 64
_SHOWN_MODES = 6  # beside the theory
# From weak to strong modes, visible on light and dark pages.
_MODES = LinearSegmentedColormap.from_list("modes", ["#7d6bd0", "#2a9d8f", "#e08a1e"])
_DASHES = ("-", "--", ":", "-.")


class Line(NamedTuple):
    """A metric over the epochs.

    Attributes:
      epochs: shape (e,).
      values: shape (e,); NaN where the metric was not measured.
      series: number of the line's colour.
    """

    epochs: np.ndarray
    values: np.ndarray
    series: int = 0


def curves(
    lines: Sequence[Line],
    *,
    log: bool = False,
    references: dict[str, float] | None = None,
) -> Markup:
    """Draws metrics over the epochs.

    Args:
      lines: at least one line.
      log: whether the vertical axis is logarithmic.
      references: values by name, which are drawn as horizontal lines.
    """

    def draw(axis: Axes) -> None:
        for line in lines:
            _plot(axis, line)
        for name, value in (references or {}).items():
            axis.axhline(value, color=MUTED, linestyle=":", linewidth=1)
            axis.annotate(
                name,
                (1, value),
                xycoords=axis.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=10,
                color=MUTED,
                gid=HALO,
            )
        _finish(axis, log=log)

    return drawing(draw)


def spectrum_lines(epochs: np.ndarray, spectrum: np.ndarray) -> Markup:
    """Draws eigenvalues, shape (epochs, modes), over the epochs as lines."""
    modes = _spread(spectrum.shape[1], _MAX_LINES)
    values = floor_eigenvalues(spectrum)[:, modes]

    def draw(axis: Axes) -> None:
        colours = _MODES(np.linspace(0, 1, len(modes)))
        for column, colour in zip(values.T, colours, strict=True):
            points = _spread(len(epochs), _MAX_POINTS)
            axis.plot(
                epochs[points],
                column[points],
                color=colour,
                linewidth=0.8,
                marker="." if len(epochs) == 1 else None,
            )
        _finish(axis, log=True)

    return drawing(draw)


def spectrum_image(epochs: np.ndarray, spectrum: np.ndarray) -> Markup:
    """Draws eigenvalues, shape (epochs, modes), as an image, with the largest below."""
    rows = _spread(len(epochs), 2 * _MAX_POINTS)
    values = floor_eigenvalues(spectrum)[rows][:, ::-1].T

    def draw(axis: Axes) -> None:
        image = axis.imshow(
            values,
            aspect="auto",
            origin="lower",
            interpolation="none",
            norm=LogNorm(*_limits(values)),
            cmap="viridis",
            extent=(epochs[0] - 0.5, epochs[-1] + 0.5, 0.5, len(values) + 0.5),
        )
        axis.grid(False)
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        bar = axis.figure.colorbar(image, ax=axis, pad=0.02)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
        bar.outline.set_visible(False)
        _label_powers(bar.ax.yaxis, values)
        bar.minorticks_off()
        _finish(axis, log=False)
        axis.set_ylabel("eigenvalue index (1 is the largest)")

    return drawing(draw)


def theory_lines(theory: Theory) -> Markup:
    """Draws some measured modes, and the flow as dashed lines over them."""
    epochs, measured = theory.problem.epochs, theory.problem.measured
    modes = _spread(measured.shape[1], _SHOWN_MODES)

    def draw(axis: Axes) -> None:
        colours = _MODES(np.linspace(0, 1, len(modes)))
        for mode, colour in zip(modes, colours, strict=True):
            axis.plot(epochs, measured[:, mode], color=colour, linewidth=2.2)
            axis.plot(
                epochs,
                theory.predicted[:, mode],
                color=colour,
                linestyle=(0, (4, 2)),
            )
        _finish(axis, log=True)

    return drawing(draw)


def sorted_spectra(spectra: Sequence[tuple[np.ndarray, int]]) -> Markup:
    """Draws eigenvalues of runs by rank, relative to the largest of their run.

    Args:
      spectra: for each run its eigenvalues, ascending, shape (modes,), and the number
        of its colour.
    """

    def draw(axis: Axes) -> None:
        for eigenvalues, series in spectra:
            values = floor_eigenvalues(eigenvalues)[::-1]
            points = _spread(len(values), _MAX_POINTS)
            _plot(axis, Line(points + 1, (values / values[0])[points], series))
        axis.set_ylim(bottom=1e-6)
        _finish(axis, log=True)
        axis.set_xlabel("eigenvalue index (1 is the largest)")

    return drawing(draw)


def _plot(axis: Axes, line: Line) -> None:
    # Epochs without a value, such as those that were not evaluated, are skipped.
    measured = np.flatnonzero(~np.isnan(line.values))
    points = measured[_spread(len(measured), _MAX_POINTS)]
    axis.plot(
        line.epochs[points],
        line.values[points],
        color=SERIES[line.series % len(SERIES)],
        # Lines of the same colour differ in their dashes.
        linestyle=_DASHES[line.series // len(SERIES) % len(_DASHES)],
        marker="." if len(points) == 1 else None,
    )


def _finish(axis: Axes, *, log: bool) -> None:
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if log:
        axis.set_yscale("log")
        _label_powers(axis.yaxis, np.array(axis.get_ylim()))


def _label_powers(axis: Axis, values: np.ndarray) -> None:
    """Labels a logarithmic axis with plain numbers, because math text is disabled."""
    is_narrow = values.max() < 100 * max(values.min(), 1e-300)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Returns the range of the colours; all modes near zero have the lowest colour."""
    largest = values.max()
    return max(values.min(), 1e-5 * largest) * 0.999, largest


def _spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` evenly spaced indices below `count`, with the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
