"""Conversion of vision transformers' weights to timm's names and layouts.

A linear layer's kernel is (in, out) in isojax and (out, in) in timm. The kernel of the
patch embedding is (side, side, channels, dim) and (dim, channels, side, side).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from isojax.errors import UsageError

_NAMES = {
    "class_token": "cls_token",
    "position": "pos_embed",
    "patch_embedding": "patch_embed.proj",
    "norm": "norm",
}
_IN_BLOCK = {
    "norm1": "norm1",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_BLOCK = re.compile(r"block(\d+)")


def timm_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts a vision transformer's variables to a state dict of timm's.

    Args:
      variables: `params` of `isojax.models.ViTTiny` or another `ViT`.

    Returns:
      Copies of the arrays with the names and shapes of timm's `VisionTransformer` with
      `num_classes=0`.

    Raises:
      UsageError: if the variables are not those of a vision transformer.
    """
    return {
        _name(path): np.array(_as_theirs(path, np.asarray(leaf)), order="C")
        for path, leaf in flatten_dict(variables["params"]).items()
    }


def _name(path: tuple[str, ...]) -> str:
    module, *rest = path
    try:
        if block := _BLOCK.fullmatch(module):
            layer, leaf = rest
            number = int(block[1]) - 1
            return f"blocks.{number}.{_IN_BLOCK[layer]}.{_LEAVES[leaf]}"
        return ".".join([_NAMES[module], *(_LEAVES[leaf] for leaf in rest)])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{'/'.join(path)} is not a variable of a vision transformer of isojax; "
            "timm has no name for it"
        ) from error


def _as_theirs(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    if path == ("class_token",):
        return array[None, None]
    if path == ("position",):
        return array[None]
    if path[-1] == "kernel":
        return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
    return array
