"""`python -m isojax.sweep`, the same as `isojax sweep`."""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("sweep", sys.argv[1:], program="python -m isojax.sweep")
