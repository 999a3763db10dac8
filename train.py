"""Pretrains an encoder without labels.

    python train.py [--config=configs/NAME.py[:PRESET]] [--workdir=DIR]
                    [--data_dir=DIR] [--config.FIELD=VALUE ...]

With no flags it trains on the digits that come with isojax. configs/base.py names every
field and every preset.
"""

from pathlib import Path

from absl import flags

from isojax import cli

_CONFIG = cli.define_config(
    str(Path(__file__).parent / "configs" / "digits.py"),
    "Config file, and a preset after a colon. Fields are set by --config.FIELD=VALUE.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; an unfinished run in it goes on. By default runs/DATA-PRESET.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data sets. By default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)


def main() -> None:
    """Runs the training that the flags describe."""
    from isojax.training import (
        pretrain,
    )  # after the flags: JAX takes a second to import

    config = _CONFIG.value
    workdir = _WORKDIR.value or f"runs/{config.data.name}-{config.preset}"
    pretrain(config, workdir, data_dir=_DATA_DIR.value)


if __name__ == "__main__":
    cli.run(main)
