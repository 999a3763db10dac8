"""ResNet-18's weights under torchvision's names and in its layouts.

timm has the same names. A convolution's kernel is (height, width, in, out) here and
(out, in, height, width) there. BatchNorm's numbers mean the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from isojax.errors import UsageError
from isojax.models import ResNet18

_IN_BLOCK = {
    "conv1": "conv1",
    "norm1": "bn1",
    "conv2": "conv2",
    "norm2": "bn2",
    "shortcut_conv": "downsample.0",
    "shortcut_norm": "downsample.1",
}
_NORM = {
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_COUNT = "num_batches_tracked"  # of training; evaluation does not read it


def torchvision_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A backbone's variables as the state dict of torchvision's ResNet-18.

    Args:
      variables: `params` and `batch_stats` of `isojax.models.ResNet18`, of any width
        and stem.

    Returns:
      Arrays of torchvision's names and shapes, without its classifier `fc`;
      `num_batches_tracked`, which is not known, is 0. They are copies.
    """
    flat = flatten_dict(variables)
    state_dict = {}
    for path, name in _names():
        if path not in flat:  # blocks without a projected shortcut
            continue
        array = np.asarray(flat[path])
        if path[-1] == "kernel":
            array = array.transpose(3, 2, 0, 1)
        state_dict[name] = np.array(array, order="C")
        if path[-1] == "var":
            count = f"{name.removesuffix('running_var')}{_COUNT}"
            state_dict[count] = np.zeros((), np.int64)
    return state_dict


def from_torchvision_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a backbone from the state dict of a torchvision ResNet-18.

    Args:
      state_dict: torch tensors or arrays, by torchvision's names. Width, the images'
        channels and the side of the first kernel are read off `conv1.weight`; `fc.*` is
        ignored.

    Returns:
      float32 `params` and `batch_stats` of `ResNet18(width, kernel_size, stride,
      max_pool)`. The stride and the pooling have no weights: the caller knows them.

    Raises:
      UsageError: naming the first tensor that is missing, of another shape, or not of a
        ResNet-18.
    """
    arrays = {
        name: _as_float32(tensor)
        for name, tensor in state_dict.items()
        if not name.startswith("fc.") and not name.endswith(_COUNT)
    }
    like = flatten_dict(_shapes(arrays.get("conv1.weight")))
    paths = {name: path for path, name in _names() if path in like}
    for name in [*paths, *arrays]:
        there = _shape(arrays.get(name))
        here = _shape(_as_theirs(like[paths[name]])) if name in paths else "missing"
        if there != here:
            raise _mismatch(name, there, here)
    flat = {path: jnp.asarray(_as_ours(arrays[name])) for name, path in paths.items()}
    return unflatten_dict(flat)


def _names() -> Iterator[tuple[tuple[str, ...], str]]:
    """Our path and torchvision's name of every tensor there may be, in its order."""
    modules = {"conv": "conv1", "norm": "bn1"}
    for module, name in modules.items():
        yield from _leaves((module,), name)
    for stage in range(1, 5):
        for block in range(1, 3):
            for module, name in _IN_BLOCK.items():
                yield from _leaves(
                    (f"stage{stage}_block{block}", module),
                    f"layer{stage}.{block - 1}.{name}",
                )


def _leaves(module: tuple[str, ...], name: str) -> Iterator[tuple[tuple, str]]:
    if "conv" in module[-1]:
        yield ("params", *module, "kernel"), f"{name}.weight"
        return
    for (kind, ours), theirs in _NORM.items():
        yield (kind, *module, ours), f"{name}.{theirs}"


def _as_float32(tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):  # torch's; NumPy does not know its bfloat16
        tensor = tensor.detach().cpu().float().numpy()
    return np.asarray(tensor, np.float32)


def _as_ours(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _as_theirs(like: jax.ShapeDtypeStruct) -> np.ndarray:
    """An array of no memory in torchvision's layout."""
    array = np.broadcast_to(np.float32(0), like.shape)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


def _shapes(first_kernel: np.ndarray | None) -> dict[str, Any]:
    shape = () if first_kernel is None else first_kernel.shape
    if len(shape) != 4 or shape[2] != shape[3] or shape[2] % 2 == 0:
        raise _mismatch(
            "conv1.weight", _shape(first_kernel), "(width, channels, k, k) with k odd"
        )
    network = ResNet18(width=shape[0], kernel_size=shape[2])
    images = jax.ShapeDtypeStruct((1, 32, 32, shape[1]), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


def _shape(array: np.ndarray | None) -> str:
    return "missing" if array is None else str(array.shape)


def _mismatch(name: str, there: str, here: str) -> UsageError:
    return UsageError(
        f"{name} is {there} in the state dict and {here} in ResNet-18; give the whole "
        "state dict of a ResNet-18 under torchvision's names"
    )
