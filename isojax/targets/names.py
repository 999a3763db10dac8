"""Accelerators that a program can be compiled for without having them.

Imports neither JAX nor its libraries, so that an unknown name is reported at once.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from isojax.errors import UsageError

# Shapes of the slices that Google Cloud offers, by generation, in chips.
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    *("4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"),
)
TPU_SLICES: Mapping[str, tuple[str, ...]] = {
    "v4": _CUBES,
    "v5e": _FLAT,
    "v5p": _CUBES,
    "v6e": _FLAT,
}
GPU_KINDS = ("h100",)
GPUS_PER_HOST = 8
_GPU_COUNTS = (1, 2, 4, *range(GPUS_PER_HOST, 257, GPUS_PER_HOST))


class Target(NamedTuple):
    """Accelerators that a program is compiled for.

    Attributes:
      name: the name, such as "tpu:v5e:2x2" or "gpu:h100:8".
      platform: "tpu" or "gpu".
      kind: the generation of the chip, such as "v5e" or "h100".
      shape: the chips along each axis of a TPU slice; the number of GPUs.
    """

    name: str
    platform: str
    kind: str
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)


def parse_target(name: str) -> Target:
    """Returns the target of a name.

    Args:
      name: "tpu:GENERATION:SLICE" or "gpu:KIND:COUNT".

    Raises:
      UsageError: if there is no such target. The message lists the targets.
    """
    platform, _, rest = name.partition(":")
    kind, _, size = rest.partition(":")
    if platform == "tpu" and kind in TPU_SLICES:
        if size not in TPU_SLICES[kind]:
            raise UsageError(
                f"--target={name}: choose one of the slices of tpu:{kind}, "
                f"{', '.join(TPU_SLICES[kind])}"
            )
        return Target(name, platform, kind, tuple(map(int, size.split("x"))))
    if platform == "gpu" and kind in GPU_KINDS:
        if size not in map(str, _GPU_COUNTS):
            raise UsageError(
                f"--target={name}: the number of GPUs must be 1, 2, 4 or a multiple of "
                f"{GPUS_PER_HOST}, the GPUs of a machine, up to {_GPU_COUNTS[-1]}"
            )
        return Target(name, platform, kind, (int(size),))
    slices = [f"tpu:{kind}:SLICE" for kind in TPU_SLICES]
    gpus = [f"gpu:{kind}:COUNT" for kind in GPU_KINDS]
    raise UsageError(
        f"--target={name} is unknown; choose one of {', '.join(slices + gpus)}, such "
        "as tpu:v5e:2x2 or gpu:h100:8"
    )
