"""Reads the tensors of a torch checkpoint without torch, and runs no code in it.

Such a file is a zip archive of a pickle and the raw numbers of each tensor. The pickle
can create dictionaries and descriptions of tensors only. Other objects that training
stores in a checkpoint, such as schedules and configs, are replaced by objects that do
nothing. Any other name in the pickle is an error.
"""

import math
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from isojax.errors import UsageError

_DTYPES: dict[str, DTypeLike] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# Training code stores objects of these names, and of any name in these packages, in
# checkpoints. They are replaced by `_Inert`.
_INERT_NAMES = {"functools.partial", "_codecs.encode", "copyreg._reconstructor"} | {
    f"builtins.{name}"
    for name in "bool bytes dict float frozenset getattr int list object set slice str "
    "tuple".split()
}
_INERT_PACKAGES = (
    "argparse collections lightning lightning_fabric numpy omegaconf pathlib pl_bolts "
    "pytorch_lightning solo torch typing"
).split()
# Names of Python 2, which torch's pickles use.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors in the `state_dict` of a checkpoint that `torch.save` wrote.

    Args:
      path: the path of the file, in the zip format of torch 1.6 and newer.

    Returns:
      The tensors by name, with their own types.

    Raises:
      UsageError: if the file does not exist, has another format, is damaged, has no
        `state_dict`, or contains names that do not belong in a checkpoint.
    """
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path}; choose a checkpoint")
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{path} is not in torch's zip format; if torch before 1.6 wrote it, "
            "convert it with torch: torch.save(torch.load(OLD), NEW)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise UsageError(
            f"{path} cannot be read ({type(error).__name__}: {error}); restore it from "
            "a backup"
        ) from error


def _read(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    names = archive.namelist()
    root = next((n[: -len("data.pkl")] for n in names if n.endswith("/data.pkl")), None)
    if root is None:
        raise UsageError("it has no data.pkl; choose a file that torch.save wrote")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big":
        raise UsageError("its numbers are big-endian; convert them to little-endian")
    with archive.open(f"{root}data.pkl") as file:
        content = _Unpickler(file).load()
    state_dict = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state_dict, dict):
        raise UsageError("it has no state_dict; choose a training checkpoint")
    return {
        name: _read_tensor(archive, f"{root}data/", tensor)
        for name, tensor in state_dict.items()
        if isinstance(tensor, _Tensor)
    }


def _read_tensor(
    archive: zipfile.ZipFile, folder: str, tensor: "_Tensor"
) -> np.ndarray:
    _, kind, key, _, _ = tensor.storage
    dtype = np.dtype(_DTYPES[kind])
    numbers = np.frombuffer(archive.read(f"{folder}{key}"), dtype)
    if 0 in tensor.size:
        return np.empty(tensor.size, dtype)
    steps = zip(tensor.size, tensor.stride, strict=True)
    last = tensor.offset + sum((length - 1) * step for length, step in steps)
    # Checked, because the view below does not check which memory it reads.
    lowest = min(tensor.offset, *tensor.size, *tensor.stride, 0)
    if lowest < 0 or max(last + 1, math.prod(tensor.size)) > len(numbers):
        raise ValueError(f"a tensor of shape {tensor.size} is not in its storage")
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.size,
        [step * dtype.itemsize for step in tensor.stride],
        writeable=False,
    )
    return np.array(view)


class _Inert:
    """Replaces objects that are not tensors, and does nothing."""

    def __init__(self, *_, **__):
        pass

    def _ignore(self, *_):
        pass

    __setstate__ = __setitem__ = append = extend = add = update = _ignore


class _Dict(dict):
    def __setstate__(self, *_):
        pass


class _Tensor(NamedTuple):
    """The arguments with which torch builds a tensor."""

    storage: tuple
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool
    hooks: Any
    metadata: Any = None

    def __setstate__(self, *_):
        pass


class _Unpickler(pickle.Unpickler):
    """Restricts a pickle to classes that run no code.

    Each of the three classes ignores the state that a pickle sets on it or its
    instances, so that a pickle cannot change them.
    """

    def persistent_load(self, reference: tuple) -> tuple:
        return reference

    def find_class(self, module: str, name: str) -> Any:
        module = _RENAMED.get(module, module)
        full_name = f"{module}.{name}"
        if full_name == "collections.OrderedDict":
            return _Dict
        if full_name == "torch._utils._rebuild_tensor_v2":
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return name
        if module.split(".")[0] in _INERT_PACKAGES or full_name in _INERT_NAMES:
            return _Inert
        raise UsageError(
            f"it contains {full_name}, which does not belong in a checkpoint, so "
            "nothing is loaded; if you trust it, save its state_dict alone with torch"
        )
