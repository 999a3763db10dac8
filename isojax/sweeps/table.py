"""Writes a sweep's tables: `runs.csv`, `table.md`, `table.tex`, `diagnostics.md`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from isojax.files import write_atomically
from isojax.sweeps import diagnostics_table
from isojax.sweeps.rows import UNFINISHED, Row, read_row, runs_in
from isojax.sweeps.run_log import planned_names
from isojax.sweeps.summary import (
    Group,
    describe_rules,
    find_best,
    group_rows,
    mean_and_deviation,
)
from isojax.sweeps.table_notes import describe_runs

CSV_FILE, MARKDOWN_FILE, LATEX_FILE = "runs.csv", "table.md", "table.tex"
DIAGNOSTICS_FILE = "diagnostics.md"
_HEADER = ("method", "EMA", "linear", "20-NN", "participation ratio", "seconds", "runs")
# Fields of `Row`, with the number of decimals.
_COLUMNS = {"linear": 3, "knn_20": 3, "participation_ratio": 1, "seconds": 0}
_MORE_IS_BETTER = ("linear", "knn_20")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "±": r"$\pm$",
    "τ": r"$\tau$",
    "–": "--",
}


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
      text: plain text.
      is_bold: whether the text is bold.
    """

    text: str
    is_bold: bool = False


def write_tables(directory: Path) -> str:
    """Writes all four files.

    Args:
      directory: the sweep's folder.

    Returns:
      The Markdown table with its notes.
    """
    rows = [read_row(directory, run) for run in runs_in(directory)]
    ended = [row for row in rows if row.status != UNFINISHED]
    notes = describe_runs(directory, ended)
    unfinished = {*planned_names(directory)} - {row.folder for row in ended}
    if unfinished:
        count = len(unfinished)
        told = f"{count} runs are" if count > 1 else "1 run is"
        notes.append(f"Not complete: {told} unfinished.")
    markdown = as_markdown(ended, notes)
    for name, content in (
        (CSV_FILE, as_csv(ended)),
        (MARKDOWN_FILE, markdown),
        (LATEX_FILE, as_latex(ended, notes)),
        (DIAGNOSTICS_FILE, diagnostics_table.as_markdown(ended)),
    ):
        write_atomically(directory / name, content.encode())
    return markdown


def as_csv(rows: Sequence[Row]) -> str:
    """Returns CSV with a line for each run; the columns are the fields of `Row`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    return file.getvalue()


def as_markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Returns a Markdown table of the means over seeds, followed by a list of notes."""
    cells, rules = _cells(rows)
    lines = [[*_HEADER], ["---"] * len(_HEADER)]
    lines += [
        [f"**{cell.text}**" if cell.is_bold else cell.text for cell in line]
        for line in cells
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = "\n".join(f"- {note}" for note in (*notes, rules))
    return f"{table}\n\n{below}\n"


def as_latex(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Returns the same table in LaTeX, which needs booktabs."""
    cells, rules = _cells(rows)
    body = [
        [
            rf"\textbf{{{escape_latex(cell.text)}}}"
            if cell.is_bold
            else escape_latex(cell.text)
            for cell in line
        ]
        for line in cells
    ]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{ll{'r' * len(_COLUMNS)}l}}",
        r"\toprule",
        rf"{' & '.join(map(escape_latex, _HEADER))} \\",
        r"\midrule",
        *(rf"{' & '.join(line)} \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"{\footnotesize",
        *(rf"{escape_latex(note)}\par" for note in (*notes, rules)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Escapes plain text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _cells(rows: Sequence[Row]) -> tuple[list[list[Cell]], str]:
    """Returns the body of the table, and the explanation of its numbers."""
    groups = group_rows(rows)
    best = {column: find_best(groups, column) for column in _MORE_IS_BETTER}
    cells = [
        [
            Cell(group.title),
            Cell(group.ema),
            *(
                Cell(_number(group, column), is_bold=best.get(column) == group)
                for column in _COLUMNS
            ),
            Cell(group.runs),
        ]
        for group in groups
    ]
    return cells, describe_rules(groups, has_best=any(best.values()))


def _number(group: Group, column: str) -> str:
    values, digits = group.values(column), _COLUMNS[column]
    if column == "seconds":
        # Excludes crashed runs, whose time is not that of a whole run.
        values = [row.seconds for row in group.rows if row.linear and row.seconds]
    if not values:
        return "–"
    mean, deviation = mean_and_deviation(values)
    if deviation is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"
