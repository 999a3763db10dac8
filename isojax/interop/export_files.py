"""Exports a run's weights as a file for other libraries, with a model card."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.interop.model_card import model_card
from isojax.interop.torchvision import torchvision_state_dict
from isojax.training import Trained, load_trained


def _encode_safetensors(trained: Trained) -> bytes:
    return save(flatten_dict(_tree(trained), sep="/"))


def _encode_torchvision(trained: Trained) -> bytes:
    backbone = {kind: parts["backbone"] for kind, parts in trained.variables.items()}
    return save(torchvision_state_dict(backbone))


def _encode_flax(trained: Trained) -> bytes:
    return msgpack_serialize(_tree(trained))


class _Format(NamedTuple):
    """A file format: its default file name, and the function that encodes weights."""

    file_name: str
    encode: Callable[[Trained], bytes]


_FORMATS = {
    "safetensors": _Format("encoder.safetensors", _encode_safetensors),
    "torchvision": _Format("encoder-torchvision.safetensors", _encode_torchvision),
    "flax": _Format("encoder.msgpack", _encode_flax),
}


def export_run(
    workdir: str | os.PathLike,
    *,
    file_format: str,
    output: str | os.PathLike | None = None,
) -> tuple[Path, Path]:
    """Writes the weights of a run's newest checkpoint, and a model card.

    Args:
      workdir: the run's folder.
      file_format: `safetensors` and `flax` contain the variables of the backbone and
        the projector, and W_P if the method's predictor is closed-form; `torchvision`
        is a safetensors file of the backbone with torchvision's names.
      output: the file; by default it is in the run's folder. An existing file is
        replaced.

    Returns:
      The paths of the file and of the card, which is named after the file plus `.md`.

    Raises:
      UsageError: if the format is unknown, the folder contains no run or no
        checkpoint, or the file cannot be written.
    """
    if file_format not in _FORMATS:
        raise UsageError(
            f"there is no format {file_format!r}; choose one of {', '.join(_FORMATS)}"
        )
    file_name, encode = _FORMATS[file_format]
    path = Path(output or Path(workdir) / file_name)
    card = path.with_name(f"{path.name}.md")
    trained = load_trained(workdir)
    content = encode(trained)
    text = model_card(workdir, trained, file_format=file_format, file_name=path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        write_atomically(card, text.encode())
    except OSError as error:
        raise UsageError(
            f"--output={path} is not writable ({error.strerror}); choose another file"
        ) from error
    return path, card


def _tree(trained: Trained) -> dict[str, Any]:
    tree = dict(trained.variables)
    if trained.predictor is not None:
        tree["predictor"] = trained.predictor
    return jax.device_get(tree)
