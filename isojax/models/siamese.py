"""The siamese network: backbone, projector and learned predictor."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike

from isojax.errors import choose
from isojax.models.backbones import build_backbone
from isojax.models.heads import MLP, LinearMap
from isojax.models.own_backbone import own_backbone


class NetworkSettings(NamedTuple):
    """Shape of the network.

    Attributes:
      backbone: a name in `BACKBONES`. The fields up to `patch_size` are arguments of
        its constructor, as far as it takes them.
      width: channels of the backbone's first stage.
      kernel_size: side of the first convolution.
      stride: stride of the first convolution.
      padding: zeros around the images for the first convolution; None for
        (kernel_size - 1) / 2.
      max_pool: whether a max-pool follows the first convolution.
      patch_size: side of a patch in pixels.
      hidden_dim: width of the projector's hidden layer.
      projection_dim: dimension of projections and predictions.
      predictor_hidden_dim: width of an MLP predictor's hidden layer.
    """

    backbone: str
    width: int
    kernel_size: int
    stride: int
    padding: int | None
    max_pool: bool
    patch_size: int
    hidden_dim: int
    projection_dim: int
    predictor_hidden_dim: int


class SiameseNetwork(nn.Module):
    """Backbone, projector and, if the method has one, a learned predictor.

    Attributes:
      backbone: module from images to representations.
      projector: module from representations to projections.
      predictor: module from projections to predictions; None if the predictor is
        closed-form or absent.
    """

    backbone: nn.Module
    projector: nn.Module
    predictor: nn.Module | None = None

    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        """Maps images (n, h, w, c) to representation (n, f) and projection (n, dim)."""
        representation = self.backbone(images, train=train)
        return representation, self.projector(representation, train)

    def predict(self, projection: Array, train: bool) -> Array:
        """Maps projections (n, dim) to the learned predictor's predictions (n, dim)."""
        if self.predictor is None:
            raise ValueError(
                "the network has no learned predictor; pass predictor='linear' or "
                "'mlp' to build_network"
            )
        return self.predictor(projection, train)

    def initialize(self, images: Array) -> Array:
        """Runs every part once, so that all of them create their parameters."""
        _, projection = self(images, train=False)
        if self.predictor is not None:
            return self.predict(projection, train=False)
        return projection


def _mlp(
    settings: NetworkSettings, axis_name: str | None, dtype: DTypeLike | None
) -> nn.Module:
    return MLP(
        settings.predictor_hidden_dim,
        settings.projection_dim,
        axis_name=axis_name,
        dtype=dtype,
    )


def _linear(
    settings: NetworkSettings, axis_name: str | None, dtype: DTypeLike | None
) -> nn.Module:
    del axis_name, dtype
    return LinearMap(settings.projection_dim)


# Learned predictors by their name in config.method.predictor.
LEARNED_PREDICTORS: dict[
    str, Callable[[NetworkSettings, str | None, DTypeLike | None], nn.Module]
] = {"linear": _linear, "mlp": _mlp}


def build_network(
    settings: NetworkSettings,
    *,
    predictor: str | None = None,
    axis_name: str | None = None,
    dtype: DTypeLike | None = None,
    remat: bool = False,
    backbone: nn.Module | None = None,
) -> SiameseNetwork:
    """Builds the network of a run.

    Args:
      settings: shape of the network.
      predictor: a name in `LEARNED_PREDICTORS`, or None for a network without a
        learned predictor.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: type of the operands of matrix products and convolutions.
      remat: whether the backbone recomputes its activations in the backward pass.
      backbone: the user's backbone, which replaces that of the settings. `dtype` and
        `remat` do not apply to it.

    Returns:
      The module, without parameters.

    Raises:
      UsageError: if the backbone or the predictor is unknown.
    """
    if backbone is None:
        arguments = {"axis_name": axis_name, "dtype": dtype, "remat": remat}
        backbone = build_backbone(settings.backbone, settings._asdict() | arguments)
    else:
        backbone = own_backbone(backbone, axis_name)
    projector = MLP(
        settings.hidden_dim, settings.projection_dim, axis_name=axis_name, dtype=dtype
    )
    if predictor is None:
        return SiameseNetwork(backbone, projector)
    build = choose("config.method.predictor", predictor, LEARNED_PREDICTORS)
    return SiameseNetwork(backbone, projector, build(settings, axis_name, dtype))
