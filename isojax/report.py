"""Writes what a run has come to as one HTML page, or compares several runs.

python -m isojax.report --workdir=DIR [DIR ...] [--output=FILE]
"""

from isojax import cli
from isojax.output import say

_WORKDIR = cli.define_path(
    "workdir",
    "runs/digits-isoloss",
    "Folder of the run, as given to train.py. More folders may follow, to be compared.",
)
_OUTPUT = cli.define_path(
    "output",
    None,
    "The page. By default report.html, in the run's folder where there is one, here "
    "where there are several.",
)


def main(more_folders: list[str]) -> None:
    """Writes the report of the runs that the flags name."""
    from isojax.reporting.report import write_report

    folders = [_WORKDIR.value, *map(cli.parse_path, more_folders)]
    path = write_report(folders, _OUTPUT.value)
    say(f"Written to {path}; open it in a browser")


if __name__ == "__main__":
    cli.run(
        main,
        groups={"run": {"workdir": "=DIR", "output": "=FILE"}},
        takes_arguments=True,
    )
