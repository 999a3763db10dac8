"""What a run has trained, for use outside the run."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from isojax.data import augment
from isojax.errors import UsageError
from isojax.models import SiameseNetwork, build_network
from isojax.runs.config_file import load_config
from isojax.training.checkpoint import Checkpoints
from isojax.training.method import CLOSED_FORM, closed_form_predictor
from isojax.training.state import TARGET_PARTS, init_variables, random_key

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
    apply, variables, _ = load_encoder_and_step(workdir, step)
    return apply, variables


def load_encoder_and_step(
    workdir: str | os.PathLike, step: int | None = None
) -> tuple[Callable[[dict, Array], Array], dict, int]:
    """What `load_encoder` returns, and the step of the checkpoint it is from."""
    network, config = _network(workdir)
    shapes = jax.eval_shape(lambda: _init(network, config))
    like = {kind: {"backbone": tree["backbone"]} for kind, tree in shapes.items()}
    like["step"] = jax.ShapeDtypeStruct((), jnp.int32)
    with Checkpoints(workdir) as checkpoints:
        restored = checkpoints.restore(like, step)
    step = int(restored.pop("step"))
    return _apply(network, config), _backbone(restored), step


def load_probe(
    workdir: str | os.PathLike, step: int, *, features: int, classes: int
) -> Array:
    """Weights of the online probe in a checkpoint.

    Args:
      workdir: the run's folder.
      step: which checkpoint.
      features: of the encoder.
      classes: of the run's data set.

    Returns:
      Shape (features + 1, classes), as `probe_logits` takes them.

    Raises:
      UsageError: if there is no such checkpoint, or its probe has another shape.
    """
    weights = jax.ShapeDtypeStruct((features + 1, classes), jnp.float32)
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore({"probe": {"weights": weights}}, step)["probe"][
            "weights"
        ]


def checkpoint_steps(
    workdir: str | os.PathLike, wanted: Sequence[int] | None = None
) -> list[int]:
    """The steps of a run's checkpoints, ascending; of them those that are wanted.

    Raises:
      UsageError: if the folder holds no run or no checkpoint, or one is not there.
    """
    load_config(workdir)
    there = Checkpoints(workdir).steps()
    if not there:
        raise UsageError(f"there is no checkpoint in {workdir}; train the run further")
    for step in wanted or ():
        if step not in there:
            raise UsageError(
                f"there is no checkpoint of step {step} in {workdir}; there are "
                f"{', '.join(map(str, there))}"
            )
    return there if wanted is None else sorted(set(wanted))


class Trained(NamedTuple):
    """The networks of a checkpoint.

    Attributes:
      step: after which it was written.
      variables: `params` and `batch_stats`, each of `backbone` and `projector`.
      predictor: closed-form W_P of the correlation then, shape (dim, dim); None where
        the method has another predictor or none.
    """

    step: int
    variables: dict[str, Any]
    predictor: Array | None


def load_trained(workdir: str | os.PathLike) -> Trained:
    """Backbone, projector and closed-form predictor of a run's newest checkpoint.

    Args:
      workdir: the run's folder.

    Raises:
      UsageError: if the folder holds no run or no checkpoint.
    """
    network, config = _network(workdir)
    shapes = jax.eval_shape(lambda: _init(network, config))
    dim = config.model.projection_dim
    like = {
        kind: {part: tree[part] for part in TARGET_PARTS}
        for kind, tree in shapes.items()
    }
    like["step"] = jax.ShapeDtypeStruct((), jnp.int32)
    like["correlation"] = jax.ShapeDtypeStruct((dim, dim), jnp.float32)
    checkpoints = Checkpoints(workdir)
    restored = checkpoints.restore(like)
    checkpoints.close()
    predictor = None
    if config.method.predictor == CLOSED_FORM:
        correlation = restored["correlation"]
        predictor = closed_form_predictor(config.method, correlation).matrix
    variables = {kind: restored[kind] for kind in shapes}
    return Trained(int(restored["step"]), variables, predictor)


def random_encoder(workdir: str | os.PathLike) -> Encoder:
    """The backbone of a run before its first step, as `load_encoder` gives it.

    Raises:
      UsageError: if the folder holds no run.
    """
    network, config = _network(workdir)
    return _apply(network, config), _backbone(_init(network, config))


def _network(workdir: str | os.PathLike) -> tuple[SiameseNetwork, ConfigDict]:
    config = load_config(workdir)
    return build_network(config.model, predictor=config.method.predictor), config


def _init(network: SiameseNetwork, config: ConfigDict) -> dict:
    # No parameter's shape depends on the side of the images.
    return init_variables(
        network, random_key(config.seed), (32, 32, len(config.data.mean))
    )


def _backbone(variables: dict) -> dict:
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
        elif not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f"images are of {images.dtype}; this encoder takes uint8, or floats in "
                "[0, 1]"
            )
        images = jnp.asarray(images, jnp.float32)
        images = augment.normalize(images, mean=config.data.mean, std=config.data.std)
        return network.backbone.apply(variables, images, train=False)

    return apply
