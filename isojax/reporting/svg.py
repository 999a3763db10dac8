"""Draws inline SVG that takes its colours from the page, light or dark."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SERIES_COUNT = 8
# Colours of the drawing that are replaced by variables of the page's style sheet.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
SERIES = [f"#0201{number:02x}" for number in range(SERIES_COUNT)]
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line"} | {
    placeholder: f"--series-{number}" for number, placeholder in enumerate(SERIES)
}
HALO = "halo"  # the `gid` of a text that has an outline, to be readable over lines

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10.5,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "isojax",  # the same run gives the same page
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.color": MUTED,
    "ytick.labelsize": 10,
}


def drawing(
    draw: Callable[[Axes], None], *, size: tuple[float, float] = (4.6, 3.0)
) -> Markup:
    """Returns a drawing as inline SVG.

    Args:
      draw: draws on axes, in the colours above or in colours that are visible on light
        and dark pages.
      size: width and height in inches, for text of 10 points. The page scales the
        drawing to its column.
    """
    buffer = io.StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # Matplotlib lacks the letters of some class names; browsers have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    return Markup(_for_page(buffer.getvalue()))  # noqa: S704  matplotlib escapes texts


def with_name(svg: Markup, name: str) -> Markup:
    """Adds a name for screen readers to an inline SVG.

    Args:
      svg: the result of `drawing`.
      name: a description of the drawing.
    """
    named = Markup('<svg role="img" aria-label="{}"').format(name)
    return svg.replace(Markup('<svg role="img"'), named, 1)


def _for_page(text: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", '<svg role="img"', 1)
    text = text.replace(f'id="{HALO}"', f'class="{HALO}"')
    # In a page with several drawings the ids of groups would not be unique.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([^;'\"]*?)([\d.]+px) [^;\"]*", r"font-size: \2", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable})")
    return re.sub(r"\n\s*", "\n", text)
