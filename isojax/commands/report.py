"""Writes a run's results as one HTML page, or compares several runs.

isojax report --workdir=DIR [DIR ...] [--output=FILE]

The page needs no other file and no network.
"""

from isojax.commands import command_line
from isojax.output import say

_WORKDIR = command_line.define_path(
    "workdir",
    "runs/digits-isoloss",
    "Directory of the run. More may follow, to be compared.",
)
_OUTPUT = command_line.define_path(
    "output",
    None,
    "File of the page. By default report.html, in the directory of a single run and in "
    "the current directory for several.",
)


def main(more_folders: list[str]) -> None:
    """Writes the report of the runs that the flags name."""
    from isojax.reporting.html_report import write_report

    folders = [_WORKDIR.value, *map(command_line.parse_path, more_folders)]
    path = write_report(folders, _OUTPUT.value)
    say(f"Written to {path}; open it in a browser")


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={"run": {"workdir": "=DIR", "output": "=FILE"}},
        takes_arguments=True,
    )
