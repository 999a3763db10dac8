"""Writes the report of a run, or the comparison of several, as one HTML page."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import isojax
from isojax.config_file import read_complete_fields
from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.reporting.comparison import comparison_page
from isojax.reporting.gathering import read_run
from isojax.reporting.run_page import run_page

REPORT_FILE = "report.html"


def write_report(
    workdirs: Sequence[str | os.PathLike], output: str | os.PathLike | None = None
) -> Path:
    """Writes what folders of runs hold as a page that needs no other file.

    Args:
      workdirs: folders of runs; of several a comparison is written.
      output: the page; by default `report.html`, in the run's folder where there is
        one, in the present folder where there are several.

    Returns:
      Where the page is.

    Raises:
      UsageError: if a folder holds no results, several are of different data sets, or
        the page cannot be written.
    """
    runs = [read_run(workdir) for workdir in dict.fromkeys(map(Path, workdirs))]
    if len(runs) == 1:
        name, fields, default = "run.html", run_page(runs[0]), runs[0].folder
    else:
        name, fields, default = "comparison.html", comparison_page(runs), Path()
    path = Path(output) if output else default / REPORT_FILE
    try:
        write_atomically(path, _render(name, fields).encode())
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {path} ({error.strerror}); name another "
            "file with --output"
        ) from error
    return path


def tell_report(workdir: str | os.PathLike) -> None:
    """Writes the report of a run and prints where it is, as a command's last act.

    What the command has done stands, so that a report that cannot be written is told
    and is no error.
    """
    try:
        print(f"The report is in {write_report([workdir])}; open it in a browser.")
    except UsageError as error:
        print(f"No report is written: {error}.")


def next_commands(workdir: str | os.PathLike) -> str:
    """What to try after a run's evaluation, as lines to print."""
    config = read_complete_fields(workdir)
    this = shlex.quote(f"--workdir={workdir}")
    if config["data"]["name"] != "digits":  # another run would take hours
        return f"Next: python -m isojax.export {this} --format=torchvision"
    name = "isoloss" if config["preset"].startswith("byol") else "byol"
    folder = str(Path(workdir).parent / name)
    other = shlex.quote(f"--workdir={folder}")
    return (
        "Next, another method beside it:\n"
        f"  python train.py --config=configs/digits.py:{name} {other}\n"
        f"  python eval_linear.py {other}\n"
        f"  python -m isojax.report {this} {shlex.quote(folder)}"
    )


def _render(name: str, fields: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("isojax.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(version=isojax.__version__, **fields)
