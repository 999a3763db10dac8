"""Exports a run's weights for other libraries, with a model card.

    isojax export --workdir=DIR [--format=FORMAT] [--output=FILE]

docs/weights.md describes the formats.
"""

from absl import flags

from isojax.commands import command_line, path_flag
from isojax.output import print_line

_WORKDIR = path_flag.define_path(
    "workdir", "runs/digits-isoloss", "Directory or URL of the run."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "safetensors",
    ["safetensors", "torchvision", "timm", "flax"],
    "safetensors and flax contain the backbone, the projector and the closed-form "
    "predictor, if any. torchvision is a safetensors file of a ResNet with "
    "torchvision's names, and timm one of a vision transformer with timm's names.",
)
_OUTPUT = path_flag.define_path(
    "output", None, "File of the weights. Default: encoder.* in the run's directory."
)


def main() -> None:
    """Exports a run with the settings of the flags."""
    # After the flags: JAX takes a second to import.
    from isojax import processes
    from isojax.interop.export_files import export_run

    processes.check_platform()
    path, card = export_run(
        _WORKDIR.value, file_format=_FORMAT.value, output=_OUTPUT.value
    )
    print_line(f"Written to {path}, with the model card {card}")


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
