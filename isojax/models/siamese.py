"""The network that both views pass through."""

from functools import partial

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from isojax.models.heads import MLP, LinearMap
from isojax.models.resnet import ResNet18


class SiameseNetwork(nn.Module):
    """Backbone, projector, and a learned predictor where the method has one.

    Attributes:
      backbone: images to representations.
      projector: representations to projections.
      predictor: projections to predictions; None where the predictor is closed-form or
        absent.
    """

    backbone: nn.Module
    projector: nn.Module
    predictor: nn.Module | None = None

    def __call__(self, images: Array, train: bool) -> tuple[Array, Array]:
        """Representation (n, features), projection (n, dim) of images (n, h, w, c)."""
        representation = self.backbone(images, train)
        return representation, self.projector(representation, train)

    def predict(self, projection: Array, train: bool) -> Array:
        """The learned predictor's prediction, (n, dim)."""
        return self.predictor(projection, train)

    def initialize(self, images: Array) -> Array:
        """Runs every part once, so that all have parameters."""
        _, projection = self(images, train=False)
        if self.predictor is not None:
            return self.predict(projection, train=False)
        return projection


def build_network(
    model: ConfigDict,
    *,
    predictor: str,
    axis_name: str | None = None,
    dtype: DTypeLike | None = None,
    remat: bool = False,
) -> SiameseNetwork:
    """Builds the network that a run's config describes.

    Args:
      model: the config's section of that name.
      predictor: the method's predictor; "mlp" and "linear" are learned.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: in which backbone and heads take their products.
      remat: of `ResNet18`.

    Returns:
      The module, without parameters.
    """
    backbone = ResNet18(
        width=model.width,
        kernel_size=model.kernel_size,
        stride=model.stride,
        max_pool=model.max_pool,
        padding=model.padding,
        axis_name=axis_name,
        dtype=dtype,
        remat=remat,
    )
    mlp = partial(MLP, dim=model.projection_dim, axis_name=axis_name, dtype=dtype)
    projector = mlp(model.hidden_dim)
    learned = {
        "mlp": mlp(model.predictor_hidden_dim),
        "linear": LinearMap(model.projection_dim),
    }
    return SiameseNetwork(backbone, projector, learned.get(predictor))
