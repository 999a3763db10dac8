"""A run's weights as one file for elsewhere, with a model card beside it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.interop.model_card import model_card
from isojax.interop.torchvision import torchvision_state_dict
from isojax.training import Trained, load_trained

_NAMES = {
    "safetensors": "encoder.safetensors",
    "torchvision": "encoder-torchvision.safetensors",
    "flax": "encoder.msgpack",
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
      file_format: `safetensors` and `flax` hold the variables of backbone and
        projector, and W_P where the method's predictor is closed-form; `torchvision`
        holds the backbone under torchvision's names, in a safetensors file.
      output: the file; by default in the run's folder. One that is there is replaced.

    Returns:
      The file, and the card: the same name and `.md`.

    Raises:
      UsageError: if the folder holds no run or no checkpoint, or the file cannot be
        written.
    """
    encode: dict[str, Callable[[Trained], bytes]] = {
        "safetensors": lambda trained: save(flatten_dict(_tree(trained), sep="/")),
        "torchvision": lambda trained: save(_state_dict(trained)),
        "flax": lambda trained: msgpack_serialize(_tree(trained)),
    }
    path = Path(output or Path(workdir) / _NAMES[file_format])
    card = path.with_name(f"{path.name}.md")
    trained = load_trained(workdir)
    content = encode[file_format](trained)
    text = model_card(workdir, trained, file_format=file_format, file_name=path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        write_atomically(card, text.encode())
    except OSError as error:
        raise UsageError(
            f"--output={path} cannot be written ({error.strerror}); name another file"
        ) from error
    return path, card


def _tree(trained: Trained) -> dict[str, Any]:
    tree = dict(trained.variables)
    if trained.predictor is not None:
        tree["predictor"] = trained.predictor
    return jax.device_get(tree)


def _state_dict(trained: Trained) -> dict[str, Any]:
    return torchvision_state_dict(
        {kind: parts["backbone"] for kind, parts in trained.variables.items()}
    )
