"""A run's encoder as a function, for use outside the run."""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from isojax.data import augment
from isojax.models import SiameseNetwork, build_network
from isojax.training.checkpoint import Checkpoints
from isojax.training.state import init_variables
from isojax.training.workdir import load_config

Encoder = tuple[Callable[[dict, Array], Array], dict]


def load_encoder(workdir: str | os.PathLike, step: int | None = None) -> Encoder:
    """The pretrained backbone of a run.

    Args:
      workdir: the run's folder.
      step: which checkpoint; the newest by default.

    Returns:
      `(apply, variables)`: `apply(variables, images)` gives the representations
      (n, features) of images (n, h, w, c), uint8 or float in [0, 1], in evaluation
      mode.

    Raises:
      UsageError: if the folder holds no run or no such checkpoint.
    """
    network, config = _network(workdir)
    checkpoints = Checkpoints(workdir)
    shapes = jax.eval_shape(lambda: _backbone_variables(network, config))
    like = {kind: {"backbone": tree} for kind, tree in shapes.items()}
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    variables = {kind: tree["backbone"] for kind, tree in restored.items()}
    return _apply(network, config), variables


def random_encoder(workdir: str | os.PathLike) -> Encoder:
    """The backbone of a run before its first step, as `load_encoder` gives it.

    Raises:
      UsageError: if the folder holds no run.
    """
    network, config = _network(workdir)
    return _apply(network, config), _backbone_variables(network, config)


def _network(workdir: str | os.PathLike) -> tuple[SiameseNetwork, ConfigDict]:
    config = load_config(workdir)
    return build_network(config.model, predictor=config.method.predictor), config


def _backbone_variables(network: SiameseNetwork, config: ConfigDict) -> dict:
    # No parameter's shape depends on the side of the images.
    variables = init_variables(
        network, jax.random.key(config.seed), (32, 32, len(config.data.mean))
    )
    return {kind: tree["backbone"] for kind, tree in variables.items()}


def _apply(
    network: SiameseNetwork, config: ConfigDict
) -> Callable[[dict, Array], Array]:
    channels = len(config.data.mean)

    def apply(variables: dict, images: Array) -> Array:
        if images.ndim != 4 or images.shape[-1] != channels:
            raise ValueError(
                f"images have shape {images.shape}; this encoder takes "
                f"(n, h, w, {channels})"
            )
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255.0
        images = augment.normalize(images, mean=config.data.mean, std=config.data.std)
        return network.backbone.apply(variables, images, train=False)

    return apply
