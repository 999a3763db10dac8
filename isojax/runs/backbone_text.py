"""The backbone of a run in words. Imports no JAX."""

from collections.abc import Mapping
from typing import Any


def describe_backbone(model: Mapping[str, Any]) -> str:
    """Returns a run's backbone in words, such as "ResNet-18 of width 64".

    Args:
      model: section `model` of the run's config.
    """
    name: str = model["backbone"]
    if name.startswith("vit_"):
        size = name.removeprefix("vit_").capitalize()
        return f"ViT-{size} with patches of side {model['patch_size']}"
    if name.startswith("resnet"):
        return f"ResNet-{name.removeprefix('resnet')} of width {model['width']}"
    return name
