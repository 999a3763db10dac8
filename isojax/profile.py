"""`python -m isojax.profile`, the same as `isojax profile`."""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("profile", sys.argv[1:], program="python -m isojax.profile")
