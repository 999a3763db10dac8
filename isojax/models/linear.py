"""Linear layer initialised as PyTorch initialises `nn.Linear`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike


class Linear(nn.Module):
    """Affine map x W + b with PyTorch's default initialisation.

    W and b are drawn from U(-1/√n, 1/√n), n the number of input features, so that each
    has variance 1/(3n). Flax's default is three times that variance for W, and zero for
    b. The closed-form predictors and the Euclidean losses depend on the scale of the
    projections, and the code of the paper uses PyTorch's default.

    Attributes:
      features: number of output features.
      use_bias: whether b is added.
      dtype: type of the operands and of the result; by default the wider of the
        input's and the parameters'. Parameters are float32.

    Source: torch.nn.Linear; Halvagal et al. 2023, official code.
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (..., n) to (..., features)."""
        uniform = _uniform(x.shape[-1] ** -0.5)
        kernel = self.param("kernel", uniform, (x.shape[-1], self.features))
        dtype = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        y = x.astype(dtype) @ kernel.astype(dtype)
        if self.use_bias:
            bias = self.param("bias", uniform, (self.features,))
            y += bias.astype(dtype).reshape((1,) * (y.ndim - 1) + (self.features,))
        return y


def _uniform(bound: float) -> Initializer:
    def init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
