"""The arrays of a state by name, with their shapes and checksums."""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Arrays = dict[str, np.ndarray]


class Leaf(NamedTuple):
    """Shape and type of an array, and its checksum if it was written."""

    shape: tuple[int, ...]
    dtype: str
    crc32: int | None = None


def host_arrays(tree: Any) -> Arrays:
    """Copies a tree's arrays to the host, by name.

    The arrays are copied even if the device is the host, because a training step reuses
    the memory of its state.

    Args:
      tree: tree of arrays that are the same in every process. Random keys are replaced
        by their data.

    Returns:
      The arrays, named like `params/backbone/Conv_0/kernel`.
    """
    data = {name: _key_data(leaf) for name, leaf in _named(tree).items()}
    return {name: np.array(array) for name, array in jax.device_get(data).items()}


def describe(tree: Any) -> dict[str, Leaf]:
    """Returns shape and type of a tree's arrays, by the names of `host_arrays`.

    Args:
      tree: tree of arrays or of their shapes.
    """
    data = {
        name: jax.eval_shape(_key_data, leaf) for name, leaf in _named(tree).items()
    }
    return {name: Leaf(leaf.shape, leaf.dtype.name) for name, leaf in data.items()}


def rebuild(like: Any, arrays: Arrays) -> Any:
    """The inverse of `host_arrays`.

    Args:
      like: tree of arrays or of their shapes.
      arrays: arrays by name, one for every leaf of `like`.

    Returns:
      The tree, on this process's first device.
    """
    device = jax.local_devices()[0]
    leaves = [
        _as_key(jax.device_put(arrays[name], device), leaf.dtype)
        for name, leaf in _named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes; detects every burst error of up to 32 bits."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _key_data(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if _is_key(leaf.dtype) else leaf


def _as_key(array: Array, dtype: Any) -> Array:
    if not _is_key(dtype):
        return array
    impl = jax.random.key_impl(jnp.empty((), dtype))
    return jax.random.wrap_key_data(array, impl=impl)
