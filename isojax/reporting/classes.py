"""Draws the report's embeddings of features and confusion matrix."""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from isojax.output import quiet_tensorflow
from isojax.reporting.array_cache import cached
from isojax.reporting.svg import HALO, drawing
from isojax.runs import layout
from isojax.runs.stored_run import Arrays

_MAX_NAMED_CLASSES = 20  # more names do not fit into a drawing
_MAX_NAME_LENGTH = 12
_RIGHT, _WRONG = "#3a86c8", "#e0651e"


def principal_components(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Computes two principal components, and the fraction of variance they explain.

    Args:
      features: shape (n, d).

    Returns:
      The components of each row, shape (n, 2), and the fraction.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    explained = variances[-2:].sum() / max(variances.sum(), 1e-30)
    return centred @ directions[:, :-3:-1], float(explained)


def has_umap() -> bool:
    """Returns whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def umap_embedding(folder: Path, features: np.ndarray) -> np.ndarray:
    """Embeds features by UMAP, and stores the result in the run's folder.

    Args:
      folder: the run's folder.
      features: shape (n, d).

    Returns:
      The points, shape (n, 2).
    """

    def compute() -> Arrays:
        quiet_tensorflow()  # UMAP imports TensorFlow
        import umap

        with warnings.catch_warnings():
            # UMAP warns that a seed limits it to one thread.
            warnings.simplefilter("ignore")
            reducer = umap.UMAP(metric="cosine", random_state=0)
            return {"points": reducer.fit_transform(features.astype(np.float32))}

    return cached(folder / layout.UMAP_FILE, {"features": features}, compute)["points"]


def scatter(points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Markup:
    """Draws points in the colours of their classes, with names if the classes are few.

    Args:
      points: shape (n, 2).
      labels: class of each point, shape (n,).
      names: names of the classes.
    """
    colours = _class_colours(len(names))

    def draw(axis: Axes) -> None:
        axis.scatter(
            points[:, 0],
            points[:, 1],
            s=7,
            c=colours[labels],
            alpha=0.7,
            linewidths=0,
            rasterized=True,
        )
        if len(names) <= _MAX_NAMED_CLASSES:
            for label in np.unique(labels):
                x, y = np.median(points[labels == label], axis=0)
                axis.text(
                    x,
                    y,
                    _short(names[label]),
                    ha="center",
                    va="center",
                    weight="bold",
                    gid=HALO,
                )
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)

    return drawing(draw, size=(4.6, 4.2))


def confusion_counts(
    labels: np.ndarray, predictions: np.ndarray, classes: int
) -> np.ndarray:
    """Counts how often each class (row) was classified as each class (column).

    Args:
      labels: true classes, shape (m,).
      predictions: predicted classes, shape (m,).
      classes: number of classes.
    """
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def confusion(counts: np.ndarray, names: Sequence[str]) -> Markup:
    """Draws a confusion matrix, with a separate colour scale for the errors.

    Args:
      counts: the result of `confusion_counts`.
      names: names of the classes.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    errors = share - np.diag(np.diag(share))
    is_named = len(names) <= _MAX_NAMED_CLASSES
    image = np.zeros((*counts.shape, 4))
    image[..., :3] = to_rgb(_WRONG)
    image[..., 3] = 0.85 * np.sqrt(errors / max(errors.max(), 1e-12))
    diagonal = np.arange(len(counts))
    image[diagonal, diagonal, :3] = to_rgb(_RIGHT)
    image[diagonal, diagonal, 3] = 0.65 * np.diag(share)

    def draw(axis: Axes) -> None:
        axis.imshow(image, interpolation="none")
        axis.grid(False)
        axis.spines[:].set_visible(True)
        axis.set(xlabel="predicted class", ylabel="true class")
        if not is_named:
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_locator(MaxNLocator(5, integer=True))
            return
        axis.set_xticks(diagonal, [_short(name) for name in names])
        axis.set_yticks(diagonal, [_short(name) for name in names])
        axis.tick_params(length=0)
        if max(map(len, names)) > 2:
            axis.tick_params("x", rotation=90)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axis.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=min(8, 80 / len(names)),
            )

    return drawing(draw, size=(4.6, 4.2))


def _class_colours(count: int) -> np.ndarray:
    if count <= 10:
        return np.array([to_rgb(f"C{number}") for number in range(max(count, 1))])
    return colormaps["turbo"](np.linspace(0.05, 0.95, count))[:, :3]


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"
