"""Loads backbones that were trained with solo-learn."""

import os
from typing import Any

from isojax.errors import UsageError
from isojax.interop.torch_archive import read_state_dict
from isojax.interop.torchvision import from_torchvision_state_dict

_PREFIXES = ("backbone.", "encoder.")  # current and older releases


def load_solo_learn(path: str | os.PathLike) -> dict[str, Any]:
    """Loads the ResNet-18 backbone of a solo-learn checkpoint.

    For CIFAR, solo-learn pads the first convolution by 2 instead of 1 pixel. Use
    `ResNet18(padding=2)` with these weights.

    Args:
      path: the path of a `.ckpt` file. No code in it is run, and torch is not needed.

    Returns:
      `params` and `batch_stats` of `isojax.models.ResNet18`, as
      `from_torchvision_state_dict` returns them.

    Raises:
      UsageError: if the file cannot be read safely, or contains another network.
    """
    tensors = read_state_dict(path)
    for prefix in _PREFIXES:
        backbone = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if backbone:
            return from_torchvision_state_dict(backbone)
    raise UsageError(
        f"{path}: its state_dict has no tensor named backbone.* or encoder.*; it has "
        f"{', '.join(list(tensors)[:3]) or 'no tensors'}. Choose a checkpoint of "
        "solo-learn's pretraining"
    )
