"""Heads on top of the backbone: projector and learned predictors."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.models.normalization import BatchNorm


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, linear: projector, and predictor of BYOL and SimSiam.

    Weights are initialised LeCun-normal (variance 1/fan-in) and biases to zero, as in
    Flax. PyTorch draws both with variance 1/(3 fan-in); docs/methods.md compares them.

    Attributes:
      hidden_dim: width of the hidden layer.
      dim: width of the output, which has neither BatchNorm nor ReLU.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: type of the operands of the matrix products. The result is at least
        float32.
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
    """Learned linear predictor z W without bias, like the closed-form predictor.

    W is initialised LeCun-normal (variance 1/dim). The product has full float32
    precision on every device.

    Attributes:
      dim: dimension of input and output.
    """

    dim: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, dim) to (n, dim); `train` has no effect."""
        del train
        return nn.Dense(self.dim, use_bias=False, precision="highest", name="map")(x)
