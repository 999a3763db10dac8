"""Pretrains an encoder without labels; `isojax train` without an installation.

    python train.py [--config=configs/NAME.py[:PRESET]] [--workdir=DIR]
                    [--config.FIELD=VALUE ...] [--data_dir=DIR] [--fork_from=DIR]

The flags are in isojax/commands/train.py.
"""

import sys

from isojax.commands.main import run_command

if __name__ == "__main__":
    run_command("train", sys.argv[1:], program="python train.py")
