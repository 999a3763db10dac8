"""Batch normalisation with PyTorch's meaning of every number."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


class BatchNorm(nn.Module):
    """Normalises each channel over the batch and all positions.

    As PyTorch's BatchNorm and unlike Flax's, the running variance is that of a sample
    (divided by n - 1), while the batch is normalised with the population's (divided by
    n). Scale starts at 1, bias and running mean at 0, running variance at 1. All of it
    is computed in float32 at least; the result has the input's dtype.

    Attributes:
      momentum: part of the old running statistics kept at an update (one minus
        PyTorch's number).
      epsilon: added to the variance.
      axis_name: mapped axis over which a global batch is spread, if any; the statistics
        are those of the whole batch.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises `x` (..., channels); with `train`, by its own statistics."""
        channels, dtype = x.shape[-1], x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
        scale = self.param("scale", ones, (channels,))
        bias = self.param("bias", zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if train:
            mean, var, count = self._batch_statistics(x)
            if self.is_mutable_collection("batch_stats"):
                keep = self.momentum
                sample_var = var * (count / max(count - 1, 1))
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * sample_var
        else:
            mean, var = running_mean.value, running_var.value
        shape = (1,) * (x.ndim - 1) + (channels,)
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        x = (x - mean.reshape(shape)) * gain.reshape(shape) + bias.reshape(shape)
        return x.astype(dtype)

    def _batch_statistics(self, x: Array) -> tuple[Array, Array, int]:
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        mean, var = x.mean(axes), x.var(axes)
        if self.axis_name is not None:
            # One collective, of one array, as each costs its time between processes.
            # The global variance is the mean of the devices' variances plus the
            # variance of their means.
            moments = jnp.stack((mean, var, jnp.square(mean)))
            mean, var, square = jax.lax.pmean(moments, self.axis_name)
            var += jnp.maximum(square - jnp.square(mean), 0.0)
            count *= jax.lax.axis_size(self.axis_name)
        return mean, var, count
