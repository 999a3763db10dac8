"""`python -m isojax.launch`, the same as `isojax launch`."""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("launch", sys.argv[1:], program="python -m isojax.launch")
