"""Writes a run's weights for use elsewhere, with a model card beside them.

    python -m isojax.export --workdir=DIR [--format=safetensors|torchvision|flax]
                            [--output=FILE]

docs/weights.md tells what each format is for.
"""

from absl import flags

from isojax import cli
from isojax.output import say

_WORKDIR = cli.define_path(
    "workdir", "runs/digits-isoloss", "Folder of the run, as given to train.py."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "safetensors",
    ["safetensors", "torchvision", "flax"],
    "safetensors and flax hold backbone, projector and the closed-form predictor, if "
    "any; torchvision holds the backbone under torchvision's names, as safetensors.",
)
_OUTPUT = cli.define_path(
    "output", None, "The file. By default encoder.* in the run's folder."
)


def main() -> None:
    """Exports the run that the flags name."""
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.interop.exporting import export_run

    parallel.check_platform()
    path, card = export_run(
        _WORKDIR.value, file_format=_FORMAT.value, output=_OUTPUT.value
    )
    say(f"Written to {path}, described in {card}")


if __name__ == "__main__":
    cli.run(
        main,
        groups={
            "run": {"workdir": "=DIR"},
            "file": {"format": "=FORMAT", "output": "=FILE"},
        },
    )
