"""Loads the networks that a run has trained."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from isojax.data import augment
from isojax.errors import UsageError
from isojax.models import SiameseNetwork, build_network
from isojax.runs.config_file import load_config
from isojax.runs.mirror import local_folder
from isojax.training.backbone import check_stored_backbone
from isojax.training.checkpoint import Checkpoints
from isojax.training.method import CLOSED_FORM_PREDICTORS, Method
from isojax.training.settings import method_settings, network_settings
from isojax.training.state import TARGET_PARTS, init_variables, random_key

Apply = Callable[[dict, Array], Array]
Encoder = tuple[Apply, dict]


def load_encoder(
    workdir: str | os.PathLike,
    step: int | None = None,
    *,
    backbone: nn.Module | None = None,
) -> Encoder:
    """Loads the pretrained backbone of a run.

    Args:
      workdir: path or URL of the run's folder.
      step: step of the checkpoint; the newest by default.
      backbone: the module that was passed to `pretrain`, if any.

    Returns:
      `(apply, variables)`: `apply(variables, images)` returns the representations
      (n, features) of images (n, h, w, c), uint8 or float in [0, 1], in evaluation
      mode.

    Raises:
      UsageError: if the folder contains no run or no such checkpoint, or the run was
        trained with another backbone.
    """
    with local_folder(workdir) as folder:
        apply, variables, _ = load_encoder_and_step(folder, step, backbone=backbone)
    return apply, variables


def load_encoder_and_step(
    workdir: str | os.PathLike,
    step: int | None = None,
    *,
    backbone: nn.Module | None = None,
) -> tuple[Apply, dict, int]:
    """Returns the result of `load_encoder` for a local folder, and the step."""
    network, config = _network(workdir, backbone)
    shapes = jax.eval_shape(lambda: _init(network, config))
    like: dict[str, Any] = {
        kind: {"backbone": tree} for kind, tree in _backbone(shapes).items()
    }
    like["step"] = jax.ShapeDtypeStruct((), jnp.int32)
    with Checkpoints(workdir) as checkpoints:
        restored = checkpoints.restore(like, step)
    step = int(restored.pop("step"))
    return _apply(network, config), _backbone(restored), step


def load_probe(
    workdir: str | os.PathLike, step: int, *, features: int, classes: int
) -> Array:
    """Loads the weights of the online probe from a checkpoint.

    Args:
      workdir: the run's folder.
      step: step of the checkpoint.
      features: number of features of the encoder.
      classes: number of classes of the run's data set.

    Returns:
      The weights, shape (features + 1, classes), as `probe_logits` takes them.

    Raises:
      UsageError: if there is no such checkpoint or its probe has another shape.
    """
    weights = jax.ShapeDtypeStruct((features + 1, classes), jnp.float32)
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore({"probe": {"weights": weights}}, step)["probe"][
            "weights"
        ]


def checkpoint_steps(
    workdir: str | os.PathLike, wanted: Sequence[int] | None = None
) -> list[int]:
    """Returns the steps of a run's checkpoints, ascending.

    Args:
      workdir: the run's folder.
      wanted: steps to select; all by default.

    Raises:
      UsageError: if the folder contains no run or no checkpoint, or a wanted one is
        missing.
    """
    load_config(workdir)
    steps = Checkpoints(workdir).steps()
    if not steps:
        raise UsageError(f"there is no checkpoint in {workdir}; train the run further")
    for step in wanted or ():
        if step not in steps:
            raise UsageError(
                f"there is no checkpoint of step {step} in {workdir}; there are "
                f"{', '.join(map(str, steps))}"
            )
    return steps if wanted is None else sorted(set(wanted))


class Trained(NamedTuple):
    """The networks of a checkpoint.

    Attributes:
      step: step of the checkpoint.
      variables: `params` and `batch_stats`, each with `backbone` and `projector`; a
        backbone without BatchNorm has no `batch_stats`.
      predictor: closed-form W_P of the checkpoint's correlation, shape (dim, dim); None
        if the method has another predictor or none.
    """

    step: int
    variables: dict[str, Any]
    predictor: Array | None

    @property
    def features(self) -> int:
        """Number of features of the backbone."""
        return self.variables["params"]["projector"]["hidden"]["kernel"].shape[0]


def load_trained(
    workdir: str | os.PathLike, *, backbone: nn.Module | None = None
) -> Trained:
    """Loads backbone, projector and closed-form predictor of the newest checkpoint.

    Args:
      workdir: path or URL of the run's folder.
      backbone: the module that was passed to `pretrain`, if any.

    Raises:
      UsageError: if the folder contains no run or no checkpoint, or the run was trained
        with another backbone.
    """
    with local_folder(workdir) as folder:
        return _load_trained(folder, backbone)


def _load_trained(folder: Path, backbone: nn.Module | None) -> Trained:
    network, config = _network(folder, backbone)
    shapes = jax.eval_shape(lambda: _init(network, config))
    dim = config.model.projection_dim
    like: dict[str, Any] = {
        kind: {part: tree[part] for part in TARGET_PARTS if part in tree}
        for kind, tree in shapes.items()
    }
    like["step"] = jax.ShapeDtypeStruct((), jnp.int32)
    like["correlation"] = jax.ShapeDtypeStruct((dim, dim), jnp.float32)
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(like)
    variables = {kind: restored[kind] for kind in shapes}
    predictor = _closed_form(method_settings(config), restored["correlation"])
    return Trained(int(restored["step"]), variables, predictor)


def random_encoder(
    workdir: str | os.PathLike, *, backbone: nn.Module | None = None
) -> Encoder:
    """Returns a run's backbone before the first step, in the form of `load_encoder`.

    Args:
      workdir: path or URL of the run's folder.
      backbone: the module that was passed to `pretrain`, if any.

    Raises:
      UsageError: if the folder contains no run, or the run was trained with another
        backbone.
    """
    with local_folder(workdir) as folder:
        network, config = _network(folder, backbone)
    return _apply(network, config), _backbone(_init(network, config))


def _network(
    workdir: str | os.PathLike, backbone: nn.Module | None
) -> tuple[SiameseNetwork, ConfigDict]:
    config = load_config(workdir)
    check_stored_backbone(workdir, config, backbone)
    network = build_network(
        network_settings(config),
        predictor=method_settings(config).learned_predictor,
        backbone=backbone,
    )
    return network, config


def _closed_form(method: Method, correlation: Array) -> Array | None:
    build = CLOSED_FORM_PREDICTORS.get(method.predictor)
    return None if build is None else build(method, correlation).matrix


def _init(network: SiameseNetwork, config: ConfigDict) -> dict:
    side, channels = config.data.resolution, len(config.data.mean)
    return init_variables(network, random_key(config.seed), (side, side, channels))


def _backbone(variables: dict) -> dict:
    """Returns the backbone's variables, of the collections that it has."""
    return {
        kind: tree["backbone"] for kind, tree in variables.items() if "backbone" in tree
    }


def _apply(network: SiameseNetwork, config: ConfigDict) -> Apply:
    channels = len(config.data.mean)

    def apply(variables: dict, images: Array) -> Array:
        if images.ndim != 4 or images.shape[-1] != channels:
            raise ValueError(
                f"images have shape {images.shape}; this encoder needs "
                f"(n, h, w, {channels})"
            )
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255.0
        elif not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"images have dtype {images.dtype}; this encoder needs uint8, or float "
                "in [0, 1]"
            )
        images = jnp.asarray(images, jnp.float32)
        images = augment.normalize(images, mean=config.data.mean, std=config.data.std)
        features: Any = network.backbone.apply(variables, images, train=False)
        return features

    return apply
