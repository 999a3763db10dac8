"""Writes an HTML page about a run, or a page that compares several runs.

isojax report --workdir=DIR [DIR ...] [--output=FILE]

The page is a single file that needs no network.
"""

from isojax.commands import command_line, path_flag
from isojax.output import print_line

_WORKDIR = path_flag.define_path(
    "workdir",
    "runs/digits-isoloss",
    "Directory or URL of the run. Further ones are compared with it.",
)
_OUTPUT = path_flag.define_path(
    "output",
    None,
    "File of the page. Default: report.html, in the run's directory, or for several "
    "runs in the current directory.",
)


def main(more_folders: list[str]) -> None:
    """Writes a report with the settings of the flags."""
    from isojax.reporting.html_report import write_report

    folders = [_WORKDIR.value, *map(path_flag.parse_path, more_folders)]
    path = write_report(folders, _OUTPUT.value)
    print_line(f"Written to {path}; open it in a browser")


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={"run": {"workdir": "=DIR", "output": "=FILE"}},
        takes_arguments=True,
    )
