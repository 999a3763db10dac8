"""Writes a run's weights for use elsewhere, with a model card beside them.

    isojax export --workdir=DIR [--format=safetensors|torchvision|flax]
                  [--output=FILE]

docs/weights.md describes the formats.
"""

from absl import flags

from isojax.commands import command_line
from isojax.output import say

_WORKDIR = command_line.define_path(
    "workdir", "runs/digits-isoloss", "Directory of the run."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "safetensors",
    ["safetensors", "torchvision", "flax"],
    "safetensors and flax hold backbone, projector and the closed-form predictor, if "
    "any; torchvision holds the backbone under torchvision's names, as safetensors.",
)
_OUTPUT = command_line.define_path(
    "output", None, "File of the weights. By default encoder.* in the run's directory."
)


def main() -> None:
    """Exports the run that the flags name."""
    # After the flags: JAX takes a second to import.
    from isojax import parallel
    from isojax.interop.export_files import export_run

    parallel.check_platform()
    path, card = export_run(
        _WORKDIR.value, file_format=_FORMAT.value, output=_OUTPUT.value
    )
    say(f"Written to {path}, described in {card}")


def run() -> None:
    """Runs the command line in `sys.argv`."""
    command_line.run(
        main,
        module=__name__,
        groups={
            "run": {"workdir": "=DIR"},
            "file": {"format": "=FORMAT", "output": "=FILE"},
        },
    )
