"""`python -m isojax.report`, the same as `isojax report`."""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("report", sys.argv[1:], program="python -m isojax.report")
