"""Projector and learned predictors: heads on top of the backbone."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.models.normalization import BatchNorm


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, linear: projector, and BYOL's and SimSiam's predictor.

    Weights start LeCun-normal (variance 1/fan-in), biases at 0.

    Attributes:
      hidden_dim: width of the hidden layer.
      dim: width of the output, which has neither BatchNorm nor ReLU.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: in which the products are taken; the result is float32 at least.
    """

    hidden_dim: int
    dim: int
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, features) to (n, dim)."""
        x = nn.Dense(self.hidden_dim, dtype=self.dtype, name="hidden")(x)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="norm")(x, train))
        x = nn.Dense(self.dim, dtype=self.dtype, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class LinearMap(nn.Module):
    """A learned linear predictor z -> z W without bias.

    W starts LeCun-normal (variance 1/dim). A bias would let the predictor add what the
    closed-form one cannot.

    Attributes:
      dim: width of input and output.
    """

    dim: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, dim) to (n, dim); `train` changes nothing."""
        del train
        return nn.Dense(self.dim, use_bias=False, name="map")(x)
