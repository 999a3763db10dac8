"""Generates the parts of the pages that come from the code, when the site is built.

A line `<!-- generated: NAME ARGUMENTS -->` in a page is replaced by the Markdown that
the function NAME in this module returns.
"""

import ast
import importlib
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MARK = re.compile(r"^<!-- generated: (\w+)(.*) -->$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(#[^)\s]*)?\)")

_PAPER = "cifar10"  # the values of base.py, with the paper's augmentation
_OTHERS = ("cifar100", "stl10", "tinyimagenet", "imagenet", "fashion_mnist")
# Section of the config that a variable in a config file stands for.
_ROOTS = {"config": "", "augment": "augment.", "method": "method."}


def fill(page: str, text: str) -> str:
    """Replaces the placeholders of a page by generated Markdown.

    Args:
      page: path of the page relative to docs/, without the suffix.
      text: text of the page.

    Returns:
      The text with its placeholders replaced.
    """
    makers = {
        "config_fields": config_fields,
        "config_files": config_files,
        "presets": presets,
        "help": help_of,
        "api": api,
        "toctree": lambda: toctree(page, text),
    }
    return MARK.sub(lambda mark: makers[mark[1]](*mark[2].split()), text)


def meanings() -> dict[str, str]:
    """Returns the meaning of each field and section of a config, in base.py's order.

    They come from the comments in the config files and from the choices of a method.
    """
    from isojax.training.method import CHOICES

    found: dict[str, str] = {}
    for file in ("base.py", "digits.py"):
        for name, comment in _set_fields(
            (ROOT / "isojax" / "configs" / file).read_text()
        ):
            found[name] = found.get(name) or comment
            if name == "method":  # its first fields are set by the preset
                for field, choices in CHOICES.items():
                    found[f"method.{field}"] = f"one of {', '.join(choices)}"
    return found


def config_fields() -> str:
    """Returns one table of fields for each section of a config."""
    paper, digits = _flat(_PAPER), _flat("digits")
    meaning = meanings()
    known = list(meaning)
    names = sorted({*paper, *digits}, key=known.index)
    sections = sorted(
        {_section(name) for name in names}, key=lambda s: known.index(s) + 1 if s else 0
    )
    head = [_row(["field", "paper", "digits", "meaning"]), _row(["---"] * 4)]
    parts = []
    for section in sections:
        title = f"`config.{section}`" if section else "`config`"
        rows = [
            _row([f"`{n}`", _value(paper, n), _value(digits, n), meaning[n]])
            for n in names
            if _section(n) == section
        ]
        about = meaning.get(section, "")
        parts.append("\n".join([f"## {title}", "", about, "", *head, *rows]))
    return "\n\n".join(parts)


def config_files() -> str:
    """Returns a table of the fields in which other configs differ from cifar10."""
    configs = {name: _flat(name) for name in (_PAPER, *_OTHERS)}
    names = [
        name
        for name in meanings()
        if name in configs[_PAPER]
        and len({_value(config, name) for config in configs.values()}) > 1
    ]
    rows = [
        _row([f"`{name}`", *(_value(config, name) for config in configs.values())])
        for name in names
    ]
    head = ["field", *(f"`{name}.py`" for name in configs)]
    return "\n".join([_row(head), _row(["---"] * len(head)), *rows])


def presets() -> str:
    """Returns a table of the presets."""
    from isojax.configs import base

    fields = ("metric", "form", "predictor", "target")
    rows = [
        _row([f"`{name}`", *(base.get_config(name).method[field] for field in fields)])
        for name in base.PRESETS
    ]
    head = ["preset", *fields]
    return "\n".join([_row(head), _row(["---"] * len(head)), *rows])


def help_of(*command: str) -> str:
    """Returns the output of a command's `--help`."""
    process = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "90"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{process.stdout.strip()}\n```"


def api(module: str) -> str:
    """Returns the autodoc directive for a module or package."""
    options = "\n   :members:\n   :member-order: bysource"
    if hasattr(importlib.import_module(module), "__path__"):
        options += "\n   :imported-members:"
    return f"```{{eval-rst}}\n.. automodule:: {module}{options}\n```"


def toctree(page: str, text: str) -> str:
    """Returns a table of contents of the pages that a page links to, in order."""
    folder = (DOCS / page).parent
    links = [link for link, _ in LINK.findall(text) if link.endswith(".md")]
    pages = [link.removesuffix(".md") for link in links if (folder / link).is_file()]
    own = [link for link in dict.fromkeys(pages) if not link.startswith("..")]
    return "\n".join(["```{toctree}", ":hidden:", *own, "```"])


def _set_fields(source: str) -> Iterator[tuple[str, str]]:
    """Yields the fields that a config file sets, each with its comment."""
    lines = source.splitlines()
    beside = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.line.lstrip().startswith("#")
    }
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        root, _, field = ast.unparse(node.targets[0]).partition(".")
        if root not in _ROOTS or not field:
            continue
        above, number = [], node.lineno - 2
        while lines[number].lstrip().startswith("#"):
            above.insert(0, lines[number].lstrip("# "))
            number -= 1
        yield _ROOTS[root] + field, beside.get(node.end_lineno, " ".join(above))


def _flat(name: str) -> dict[str, Any]:
    """Returns the fields of a config file by dotted name."""
    from isojax.runs.config_file import flat_fields

    config = importlib.import_module(f"isojax.configs.{name}").get_config()
    return {
        field: value
        for field, value in flat_fields(config).items()
        if value is not None
    }


def _section(name: str) -> str:
    return name.rpartition(".")[0]


def _value(config: dict[str, Any], name: str) -> str:
    if name not in config:
        return ""
    value = config[name]
    values = value if isinstance(value, list) else [value]
    text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    return f"`({text})`" if isinstance(value, list) else f"`{text}`"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
