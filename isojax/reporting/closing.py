"""Prints the last lines of a command: the path of the report, and what to run next."""

import os

from isojax.invocation import command
from isojax.output import print_line, run_optional
from isojax.runs.config_file import read_fields
from isojax.runs.mirror import local_folder


def announce_report(workdir: str | os.PathLike) -> None:
    """Writes the report of a run and prints its path.

    The command has done its work by then, so a failure is logged in one line.

    Args:
      workdir: the run's folder.
    """

    def write() -> None:
        from isojax.reporting.html_report import write_report  # with Matplotlib

        print_line(f"The report is in {write_report([workdir])}; open it in a browser.")

    run_optional(write, failure="no report was written")


def announce_next_commands(workdir: str | os.PathLike) -> None:
    """Prints commands to try after the evaluation of a run.

    Args:
      workdir: the run's folder.
    """
    run_optional(
        lambda: print_line(next_commands(workdir)),
        failure="the next commands were not printed",
    )


def next_commands(workdir: str | os.PathLike) -> str:
    """Returns commands to try after the evaluation of a run, as lines to print.

    Args:
      workdir: the run's folder.

    Raises:
      UsageError: if the folder contains no run.
    """
    with local_folder(workdir) as folder:
        config = read_fields(folder)
    this = f"--workdir={workdir}"
    if config["data"]["name"] != "digits":  # training another run would take hours
        return f"Next: {command('export', this, '--format=torchvision')}"
    name = "isoloss" if config["preset"].startswith("byol") else "byol"
    directory = os.path.join(os.path.dirname(workdir), name)
    other = f"--workdir={directory}"
    commands = [
        command("train", f"--config=digits:{name}", other),
        command("evaluate", other),
        command("report", this, directory),
    ]
    return "\n  ".join(["Next, compare it with another method:", *commands])
