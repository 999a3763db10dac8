"""The backbones, by the names that config.model.backbone takes."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from isojax.errors import choose
from isojax.models.resnet import ResNet18, ResNet34, ResNet50
from isojax.models.vit import ViTSmall, ViTTiny

# Constructors of modules with `__call__(images, train)` -> (n, features). They take the
# fields of section `model` of a config that they have a parameter for, and the
# parameters `axis_name`, `dtype` and `remat` of `build_network` likewise.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vit_tiny": ViTTiny,
    "vit_small": ViTSmall,
}


def build_backbone(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Builds a backbone by its name.

    Args:
      name: a name in `BACKBONES`.
      arguments: values by name; those that the constructor has no parameter for are
        ignored.

    Returns:
      The module, without parameters.

    Raises:
      UsageError: if the name is unknown.
    """
    constructor = choose("config.model.backbone", name, BACKBONES)
    taken = inspect.signature(constructor).parameters
    return constructor(**{key: v for key, v in arguments.items() if key in taken})
