"""Sphinx configuration of the documentation: Markdown pages and an API reference.

Building and reading the site needs no network. Formulas become MathML, which browsers
render.
"""

import re
import sys
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import generate  # noqa: E402
from docstrings import as_rst  # noqa: E402

import isojax  # noqa: E402

project = "isojax"
author = "The isojax authors"
copyright = "the isojax authors, Apache-2.0"
version = release = isojax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
highlight_language = "text"  # for blocks without a language
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autoclass_content = "both"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
napoleon_attr_annotations = False
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False
python_maximum_signature_line_length = 160

html_theme = "furo"
html_title = f"isojax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"


def setup(app) -> None:
    """Registers the hooks below with Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_block, None)
    )
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _escape, priority=100)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip)


def _fill(app, page: str, source: list[str]) -> None:
    source[0] = generate.fill(page, source[0])


def _escape(app, what, name, member, options, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def _shorten(app, what, name, member, options, signature, returned):
    """Removes the arguments that Flax adds to every module."""
    if signature:
        signature = re.sub(
            r", parent: [^=]*= <[^>]*>, name: [^=]*= None", "", signature
        )
    return signature, returned


def _skip(app, what, name, member, skip, options) -> bool | None:
    """Skips fields of named tuples, which the class docstring describes."""
    described = (getattr(member, "__doc__", None) or "").startswith("Alias for field")
    return True if described else None


def _inline(translator, node) -> None:
    translator.body.append(convert(node.astext()))
    raise SkipNode


def _block(translator, node) -> None:
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>')
    raise SkipNode
