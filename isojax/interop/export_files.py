"""Exports a run's weights as a file for other libraries, with a model card."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from isojax.errors import UsageError
from isojax.interop.model_card import model_card
from isojax.interop.timm import timm_state_dict
from isojax.interop.torchvision import torchvision_state_dict
from isojax.output import with_shown_names
from isojax.runs.bucket import is_url, write_output
from isojax.runs.config_file import load_config
from isojax.runs.mirror import local_folder, shown_path
from isojax.training import Trained, load_trained


def _encode_safetensors(trained: Trained) -> bytes:
    return save(flatten_dict(_tree(trained), sep="/"))


def _encode_torchvision(trained: Trained) -> bytes:
    return save(torchvision_state_dict(_backbone(trained)))


def _encode_timm(trained: Trained) -> bytes:
    return save(timm_state_dict(_backbone(trained)))


def _encode_flax(trained: Trained) -> bytes:
    return msgpack_serialize(_tree(trained))


class _Format(NamedTuple):
    """A file format.

    Attributes:
      file_name: the default file name.
      encode: the function that encodes weights.
      backbones: the beginning of the names of the backbones that it has names for.
    """

    file_name: str
    encode: Callable[[Trained], bytes]
    backbones: str = ""


_FORMATS = {
    "safetensors": _Format("encoder.safetensors", _encode_safetensors),
    "torchvision": _Format(
        "encoder-torchvision.safetensors", _encode_torchvision, backbones="resnet"
    ),
    "timm": _Format("encoder-timm.safetensors", _encode_timm, backbones="vit_"),
    "flax": _Format("encoder.msgpack", _encode_flax),
}


def export_run(
    workdir: str | os.PathLike,
    *,
    file_format: str,
    output: str | os.PathLike | None = None,
    backbone: nn.Module | None = None,
) -> tuple[Path | str, Path | str]:
    """Writes the weights of a run's newest checkpoint, and a model card.

    Args:
      workdir: path or URL of the run's folder.
      file_format: `safetensors` and `flax` contain the variables of the backbone and
        the projector, and W_P if the method's predictor is closed-form; `torchvision`
        is a safetensors file of a ResNet with torchvision's names, and `timm` one of a
        vision transformer with timm's names.
      output: the file; by default it is in the run's folder. An existing file is
        replaced.
      backbone: the module that was passed to `pretrain`, if any.

    Returns:
      The paths of the file and of the card, which is named after the file plus `.md`;
      strings if they are URLs.

    Raises:
      UsageError: if the format is unknown or does not suit the backbone, the folder
        contains no run or no checkpoint, or the file cannot be written.
    """
    if file_format not in _FORMATS:
        raise UsageError(
            f"there is no format {file_format!r}; choose one of {', '.join(_FORMATS)}"
        )
    file_name, encode, _ = _FORMATS[file_format]
    with local_folder(workdir) as folder:
        path = os.fspath(output or folder / file_name)
        card = f"{path}.md"
        _check_format(file_format, load_config(folder).model.backbone)
        trained = load_trained(folder, backbone=backbone)
        text = model_card(
            folder,
            trained,
            file_format=file_format,
            file_name=os.path.basename(path),
        )
        try:
            if not is_url(path):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_output(path, encode(trained))
            write_output(card, with_shown_names(text).encode())
        except OSError as error:
            raise UsageError(
                f"--output={path} is not writable ({error.strerror}); choose another "
                "file"
            ) from error
        return shown_path(path), shown_path(card)


def _check_format(file_format: str, backbone: str) -> None:
    if not backbone.startswith(_FORMATS[file_format].backbones):
        others = [
            name
            for name, other in _FORMATS.items()
            if backbone.startswith(other.backbones)
        ]
        raise UsageError(
            f"--format={file_format} has no names for the backbone {backbone}; choose "
            f"one of {', '.join(others)}"
        )


def _backbone(trained: Trained) -> dict[str, Any]:
    return {
        kind: parts["backbone"]
        for kind, parts in trained.variables.items()
        if "backbone" in parts
    }


def _tree(trained: Trained) -> dict[str, Any]:
    tree = dict(trained.variables)
    if trained.predictor is not None:
        tree["predictor"] = trained.predictor
    return jax.device_get(tree)
