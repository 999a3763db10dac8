"""Conversion of ResNets' weights from and to torchvision's names and layouts.

timm uses the same names. The kernel of a convolution is (height, width, in, out) in
isojax and (out, in, height, width) in torchvision. BatchNorm's variables are the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from isojax.errors import UsageError
from isojax.models import ResNet18, ResNet34, ResNet50
from isojax.models.resnet import ResNet

_NETWORKS: tuple[type[ResNet], ...] = (ResNet18, ResNet34, ResNet50)
_IN_BLOCK = {
    "conv1": "conv1",
    "norm1": "bn1",
    "conv2": "conv2",
    "norm2": "bn2",
    "conv3": "conv3",
    "norm3": "bn3",
    "shortcut_conv": "downsample.0",
    "shortcut_norm": "downsample.1",
}
_NORM = {
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_MOST_BLOCKS = max(max(network.blocks) for network in _NETWORKS)
_COUNT = "num_batches_tracked"  # used in training, not in evaluation


def torchvision_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts a ResNet's variables to a state dict of torchvision's ResNet.

    Args:
      variables: `params` and `batch_stats` of `isojax.models.ResNet18`, `ResNet34` or
        `ResNet50`, of any width and stem.

    Returns:
      Copies of the arrays with torchvision's names and shapes, without the classifier
      `fc`; `num_batches_tracked`, which is unknown, is 0.

    Raises:
      UsageError: if the variables are not those of a ResNet.
    """
    flat = flatten_dict(variables)
    paths = _paths(flat)
    if len(paths) < len(flat):
        foreign = next(path for path in flat if path not in paths.values())
        raise UsageError(
            f"{'/'.join(foreign)} is not a variable of a ResNet of isojax; torchvision "
            "has no name for it"
        )
    state_dict = {}
    for name, path in paths.items():
        array = np.asarray(flat[path])
        if path[-1] == "kernel":
            array = array.transpose(3, 2, 0, 1)
        state_dict[name] = np.array(array, order="C")
        if path[-1] == "var":
            count = f"{name.removesuffix('running_var')}{_COUNT}"
            state_dict[count] = np.zeros((), np.int64)
    return state_dict


def from_torchvision_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict of a torchvision ResNet to a backbone's variables.

    Args:
      state_dict: torch tensors or arrays, by the names of torchvision's `resnet18`,
        `resnet34` or `resnet50`. The width, the number of image channels and the size
        of the first kernel are those of `conv1.weight`; `fc.*` is ignored.

    Returns:
      float32 `params` and `batch_stats` of `ResNet18(width, kernel_size, stride,
      max_pool)`, or of `ResNet34` or `ResNet50`. The stride and the pooling have no
      weights; the caller must know them.

    Raises:
      UsageError: if a tensor is missing, has another shape, or does not belong to the
        network. The message names the tensor and both shapes.
    """
    arrays = {
        name: _as_float32(tensor)
        for name, tensor in state_dict.items()
        if not name.startswith("fc.") and not name.endswith(_COUNT)
    }
    first = arrays.get("conv1.weight")
    candidates = [(network, _like(network, first)) for network in _NETWORKS]
    # The network whose tensors have the most names in common with the given ones.
    network, like = min(
        candidates, key=lambda pair: len(_paths(pair[1]).keys() ^ arrays)
    )
    paths = _paths(like)
    for name in [*paths, *arrays]:
        given = _shape(arrays.get(name))
        expected = _shape(_as_theirs(like[paths[name]])) if name in paths else "missing"
        if given != expected:
            title = network.__name__.replace("ResNet", "ResNet-")
            raise _mismatch(name, given, expected, title)
    flat = {path: jnp.asarray(_as_ours(arrays[name])) for name, path in paths.items()}
    return unflatten_dict(flat)


def _names() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields isojax's path and torchvision's name of every tensor that may exist."""
    modules = {"conv": "conv1", "norm": "bn1"}
    for module, name in modules.items():
        yield from _leaves((module,), name)
    for stage in range(1, 5):
        for block in range(1, _MOST_BLOCKS + 1):
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
    if hasattr(tensor, "detach"):  # a torch tensor; NumPy has no bfloat16
        tensor = tensor.detach().cpu().float().numpy()
    return np.asarray(tensor, np.float32)


def _as_ours(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _as_theirs(like: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns an array in torchvision's layout that occupies no memory."""
    array = np.broadcast_to(np.float32(0), like.shape)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


def _like(
    network: type[ResNet], first_kernel: np.ndarray | None
) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Returns the shapes of a network's variables by path."""
    shape = () if first_kernel is None else first_kernel.shape
    if len(shape) != 4 or shape[2] != shape[3] or shape[2] % 2 == 0:
        expected = "(width, channels, k, k) with k odd"
        raise _mismatch("conv1.weight", _shape(first_kernel), expected, "a ResNet")
    module = network(width=shape[0], kernel_size=shape[2])
    images = jax.ShapeDtypeStruct((1, 32, 32, shape[1]), jnp.float32)
    return flatten_dict(jax.eval_shape(module.init, jax.random.key(0), images))


def _paths(like: Mapping[tuple[str, ...], Any]) -> dict[str, tuple[str, ...]]:
    """Returns isojax's path of each variable by torchvision's name."""
    return {name: path for path, name in _names() if path in like}


def _shape(array: np.ndarray | None) -> str:
    return "missing" if array is None else str(array.shape)


def _mismatch(name: str, given: str, expected: str, network: str) -> UsageError:
    return UsageError(
        f"{name} is {given} in the state dict and {expected} in {network}; pass the "
        "complete state dict of torchvision's resnet18, resnet34 or resnet50"
    )
