"""Writes the report of a run, or the comparison of several runs, as an HTML page."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import isojax
from isojax.errors import UsageError
from isojax.output import with_shown_names
from isojax.reporting.comparison_page import comparison_page
from isojax.reporting.run_page import run_page
from isojax.runs import layout
from isojax.runs.bucket import is_url, write_output
from isojax.runs.mirror import local_folder, shown_path
from isojax.runs.stored_run import read_run


def write_report(
    workdirs: Sequence[str | os.PathLike], output: str | os.PathLike | None = None
) -> Path | str:
    """Writes a page about runs, which needs no other file.

    Args:
      workdirs: paths or URLs of runs; several runs are compared.
      output: the page; by default `report.html`, in the run's folder for one run, and
        in the current directory for several.

    Returns:
      The path of the page; a string if it is a URL.

    Raises:
      UsageError: if a folder contains no results, the runs have different data sets, or
        the page cannot be written.
    """
    with ExitStack() as held:
        unique = dict.fromkeys(w if is_url(w) else Path(w) for w in workdirs)
        folders = [held.enter_context(local_folder(workdir)) for workdir in unique]
        runs = [read_run(folder) for folder in folders]
        if len(runs) == 1:
            name, fields, default = "run.html", run_page(runs[0]), runs[0].folder
        else:
            name, fields, default = "comparison.html", comparison_page(runs), Path()
        path = output or default / layout.REPORT_FILE
        try:
            page = with_shown_names(_render(name, fields))
            # The name of a folder may contain bytes that are not UTF-8.
            write_output(path, page.encode(errors="replace"))
        except OSError as error:
            raise UsageError(
                f"the report cannot be written to {path} ({error.strerror}). Choose "
                "another file with --output"
            ) from error
        return shown_path(path)


def _render(name: str, fields: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("isojax.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(version=isojax.__version__, **fields)
