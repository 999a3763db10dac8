"""Drawings that take their colours from the page around them, light or dark."""

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
# Stand-ins that the drawing is made with, for variables of the page's style sheet.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
SERIES = [f"#0201{number:02x}" for number in range(SERIES_COUNT)]
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line"} | {
    stand_in: f"--series-{number}" for number, stand_in in enumerate(SERIES)
}
HALO = "halo"  # as `gid` of a text: kept readable over what lies beneath it

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
    """What `draw` puts on axes, as an inline SVG.

    Args:
      draw: is given the axes; its colours are the stand-ins above, or such as are seen
        on light and dark alike.
      size: width and height in inches, at which letters have 10 points; the page scales
        the drawing to its column.
    """
    buffer = io.StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # Of a class's name in a script that matplotlib has no letters of; the
        # reader's browser has.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", dpi=160, metadata={"Date": None})
    return Markup(_for_page(buffer.getvalue()))  # noqa: S704  matplotlib escapes texts


def with_name(svg: Markup, name: str) -> Markup:
    """An inline SVG with the name that a screen reader says instead of the drawing.

    Args:
      svg: what `drawing` returns.
      name: what the drawing shows.
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
    # Names of groups would be found twice in a page of several drawings.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([^;'\"]*?)([\d.]+px) [^;\"]*", r"font-size: \2", text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return re.sub(r"\n\s*", "\n", text)
