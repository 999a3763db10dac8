"""2-D convolution with square kernels and zero padding, as in PyTorch."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


class Conv(nn.Module):
    """2-D convolution without bias.

    The kernel is float32, initialised He-normal over the fan-out: variance
    2 / (kernel_size² · features).

    Attributes:
      features: output channels.
      kernel_size: side of the kernel, odd.
      stride: stride in both directions.
      padding: zeros on every side of the image; by default (kernel_size - 1) / 2.
      dtype: type of the operands and of the result; by default the wider one of input
        and kernel.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolves images (n, h, w, c) with the kernel; see `convolve`."""
        kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            (self.kernel_size, self.kernel_size, x.shape[-1], self.features),
            jnp.float32,
        )
        dtype = self.dtype
        if dtype is None:
            dtype = jnp.promote_types(x.dtype, kernel.dtype)
        return convolve(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=self.stride,
            padding=self.padding,
        )


def convolve(
    x: Array, kernel: Array, *, stride: int = 1, padding: int | None = None
) -> Array:
    """Convolves images with zero padding.

    Args:
      x: images, shape (n, h, w, c).
      kernel: shape (k, k, c, features) with odd k.
      stride: stride in both directions.
      padding: zeros on every side; by default (k - 1) / 2.

    Returns:
      Shape (n, h', w', features) with h' = (h + 2 padding - k) // stride + 1 and w'
      likewise; by default (n, ceil(h / stride), ceil(w / stride), features).
    """
    if padding is None:
        padding = kernel.shape[0] // 2
    if min(x.shape[1:3]) < kernel.shape[0]:
        # XLA's CPU convolution falls back to a naive loop for such images.
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=partial(convolve_patches, stride=stride, padding=padding),
            default=partial(convolve_directly, stride=stride, padding=padding),
        )
    return convolve_directly(x, kernel, stride=stride, padding=padding)


def convolve_directly(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    """Implements `convolve` with XLA's convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def convolve_patches(x: Array, kernel: Array, *, stride: int, padding: int) -> Array:
    """Implements `convolve` as one matrix product of patches and kernel.

    The product leaves out the kernel's rows and columns that only meet the padding: on
    images of side 1 with padding 1, all but the centre of a 3×3 kernel.
    """
    side, _, _, features = kernel.shape
    height, width = (
        (length + 2 * padding - side) // stride + 1 for length in x.shape[1:3]
    )
    rows, columns = (
        [
            i
            for i in range(side)
            if any(0 <= i + stride * k - padding < length for k in range(result))
        ]
        for length, result in zip(x.shape[1:3], (height, width), strict=True)
    )
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    patches = jnp.concatenate(
        [
            x[
                :,
                i : i + stride * (height - 1) + 1 : stride,
                j : j + stride * (width - 1) + 1 : stride,
            ]
            for i in rows
            for j in columns
        ],
        axis=-1,
    )
    kernel = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, features)
    return product.reshape(len(x), height, width, features)
