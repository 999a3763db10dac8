"""`python -m isojax.export`, the same as `isojax export`."""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("export", sys.argv[1:], program="python -m isojax.export")
