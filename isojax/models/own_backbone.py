"""Backbones that the user hands to `pretrain`: their checks and their description."""

import dataclasses
import functools
import inspect
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError, ModifyScopeVariableError

from isojax.errors import UsageError, first_line

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_KINDS = ("params", "batch_stats")  # the collections that a run stores
_BATCH_SIZES = (2, 3)
# Set by isojax and by Flax, so not part of what distinguishes two backbones.
_NOT_DESCRIBED = ("axis_name", "parent", "name")


def describe_module(module: nn.Module) -> str:
    """Returns a module's class name and fields, such as "ConvNet(width=8)".

    The text is the same in every process, so that a run's folder can record it.

    Raises:
      UsageError: if it is not an instance of `flax.linen.Module`.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"backbone={module!r} is not an instance of flax.linen.Module; pass one, "
            "such as backbone=ConvNet()"
        )
    fields = [
        f"{field.name}={_describe_value(getattr(module, field.name))}"
        for field in dataclasses.fields(module)
        if field.init and field.name not in _NOT_DESCRIBED
    ]
    return f"{type(module).__name__}({', '.join(fields)})"


def own_backbone(module: nn.Module, axis_name: str | None) -> nn.Module:
    """Returns a copy of a backbone that can become part of the network.

    Args:
      module: the user's module.
      axis_name: mapped axis over which a global batch is spread, if any. If the module
        has a field of this name, it is set.
    """
    if has_axis_name(module):
        return module.clone(parent=None, name=None, axis_name=axis_name)
    return module.clone(parent=None, name=None)


def has_axis_name(module: nn.Module) -> bool:
    """Returns whether a module has a field `axis_name`."""
    return "axis_name" in {field.name for field in dataclasses.fields(module)}


def check_backbone(
    module: nn.Module, image_shape: tuple[int, int, int], *, devices: int
) -> None:
    """Checks that a module can be the backbone of a run; computes shapes only.

    Args:
      module: the user's module.
      image_shape: (h, w, c) of the images.
      devices: number of devices of the run.

    Raises:
      UsageError: if it cannot. The message names the problem and the remedy.
    """
    name = type(module).__name__
    if "train" not in inspect.signature(type(module).__call__).parameters:
        raise UsageError(
            f"the backbone {name} has no argument train; define "
            "__call__(self, images, train)"
        )
    module = own_backbone(module, None)
    variables = _init(module, image_shape)
    for kind in variables:
        if kind not in _KINDS:
            raise UsageError(
                f"the backbone {name} has a variable collection {kind!r}; a run stores "
                f"{' and '.join(_KINDS)} only, so keep its variables in one of them"
            )
    if not jax.tree.leaves(variables.get("params")):
        raise UsageError(f"the backbone {name} has no parameters to train; add a layer")
    outputs = {
        (size, train): _apply(module, variables, (size, *image_shape), train=train)
        for size in _BATCH_SIZES
        for train in (False, True)
    }
    for (size, _), output in outputs.items():
        _check_output(name, output, size)
    widths = {output.shape[1] for output in outputs.values()}
    if len(widths) > 1:
        raise UsageError(
            f"the backbone {name} returns {' or '.join(map(str, sorted(widths)))} "
            "features, depending on the number of images or on train; return the same "
            "number always"
        )
    if devices > 1 and "batch_stats" in variables and not has_axis_name(module):
        raise UsageError(
            f"the backbone {name} has batch statistics and the run has {devices} "
            "devices; to compute them over all devices, add a field `axis_name: str | "
            "None = None` to the module and pass it to nn.BatchNorm(axis_name=...)"
        )


def _init(module: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return _evaluate(
        module,
        lambda x: module.init({"params": jax.random.key(0)}, x, train=False),
        images,
    )


def _apply(
    module: nn.Module, variables: Any, shape: tuple[int, ...], *, train: bool
) -> Any:
    def apply(variables: Any, images: jax.Array) -> Any:
        if not train:
            return module.apply(variables, images, train=False)
        output, _ = module.apply(variables, images, train=True, mutable=["batch_stats"])
        return output

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return _evaluate(module, apply, variables, images)


def _evaluate(module: nn.Module, function: Any, *arguments: Any) -> Any:
    """Returns the shapes of a function's results; names the remedy if it fails."""
    name, shape = type(module).__name__, arguments[-1].shape
    try:
        return jax.eval_shape(function, *arguments)
    except InvalidRngError as error:
        raise UsageError(
            f"the backbone {name} needs random numbers other than those of its "
            f"initialisation ({_reason(error)}); remove dropout, or set its rate to 0"
        ) from error
    except ModifyScopeVariableError as error:
        raise UsageError(
            f"the backbone {name} changes variables other than batch_stats in training "
            f"({_reason(error)}); keep them in batch_stats, and change them with "
            "train=True only"
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            f"the backbone {name} fails on images of shape {shape} "
            f"({_reason(error)}); it must map images (n, h, w, c), for any n, to "
            "features (n, features)"
        ) from error


def _check_output(name: str, output: Any, size: int) -> None:
    if not hasattr(output, "shape"):
        raise UsageError(
            f"the backbone {name} returns a {type(output).__name__}; return one array "
            "(n, features)"
        )
    shape = output.shape
    if len(shape) == 4 and shape[0] == size:
        raise UsageError(
            f"the backbone {name} returns a feature map of shape {shape} for {size} "
            "images; return (n, features), for example its mean over both sides, "
            "x.mean(axis=(1, 2))"
        )
    if len(shape) != 2 or shape[0] != size:
        raise UsageError(
            f"the backbone {name} returns shape {shape} for {size} images; return one "
            "row per image, (n, features)"
        )
    if not jnp.issubdtype(output.dtype, jnp.floating) or output.dtype.itemsize < 4:
        raise UsageError(
            f"the backbone {name} returns {output.dtype}; return float32, as "
            "x.astype(jnp.float32)"
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _describe_value(value: Any) -> str:
    if isinstance(value, nn.Module):
        return describe_module(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe_value, value))})"
    if isinstance(value, functools.partial):
        return f"partial({_describe_value(value.func)}, {value.args}, {value.keywords})"
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return _ADDRESS.sub("", " ".join(repr(value).split()))
