"""Vision transformers with a class token and learned position embeddings."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.errors import UsageError

_EPSILON = 1e-6  # constant added to the variance in layer normalisation
_MLP_RATIO = 4  # hidden width of a block's MLP, relative to the width of a token


def _dense(features: int, dtype: DTypeLike | None, name: str) -> nn.Dense:
    initializer = nn.initializers.truncated_normal(0.02)
    return nn.Dense(features, kernel_init=initializer, dtype=dtype, name=name)


class PatchEmbedding(nn.Module):
    """Maps each patch of an image linearly to a token.

    The kernel has the layout of a convolution's, (side, side, channels, dim), and is
    initialised LeCun-normal over the fan-in.

    Attributes:
      dim: width of a token.
      side: side of a patch, in pixels.
      dtype: type in which products are computed.
    """

    dim: int
    side: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images (n, h, w, c) to tokens (n, patches, dim), in row-major order."""
        n, height, width, channels = images.shape
        side = self.side
        shape = (side, side, channels, self.dim)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        patches = images.reshape(n, height // side, side, width // side, side, channels)
        patches = patches.transpose(0, 1, 3, 2, 4, 5)
        patches = patches.reshape(n, -1, side * side * channels)
        kernel = kernel.reshape(-1, self.dim)
        dtype = self.dtype or jnp.promote_types(images.dtype, kernel.dtype)
        tokens = patches.astype(dtype) @ kernel.astype(dtype)
        return tokens + bias.astype(dtype)[None, None]


class Block(nn.Module):
    """Self-attention and MLP, each after layer normalisation and with a shortcut.

    Attributes:
      heads: number of attention heads.
      dtype: type in which products are computed.
    """

    heads: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps tokens (n, tokens, dim) to tokens of the same shape."""
        n, tokens, dim = x.shape
        dense = partial(_dense, dtype=self.dtype)
        qkv = dense(3 * dim, name="qkv")(_norm("norm1")(x))
        query, key, value = jnp.moveaxis(
            qkv.reshape(n, tokens, 3, self.heads, dim // self.heads), 2, 0
        )
        attended = jax.nn.dot_product_attention(query, key, value)
        x = x + dense(dim, name="proj")(attended.reshape(n, tokens, dim))
        hidden = dense(_MLP_RATIO * dim, name="fc1")(_norm("norm2")(x))
        return x + dense(dim, name="fc2")(nn.gelu(hidden, approximate=False))


class ViT(nn.Module):
    """Vision transformer without its classifier: maps images to representations.

    The representation is the class token after the last layer normalisation. Linear
    layers and position embeddings are initialised with a truncated normal distribution
    of standard deviation 0.02, biases with zero. There is no dropout.

    Attributes:
      patch_size: side of a patch in pixels, a divisor of both sides of the images.
      dim: width of a token, and number of features of the representation.
      depth: number of blocks.
      heads: number of attention heads, a divisor of `dim`.
      dtype: type in which products are computed; the representation is at least
        float32.
      remat: whether the backward pass recomputes the activations of each block instead
        of storing them. This saves memory and costs time; the numbers are the same.

    Source: Dosovitskiy et al. 2021; `vit_*_patch16_224` of timm.
    """

    patch_size: int = 16
    dim: int = 192
    depth: int = 12
    heads: int = 3
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Maps normalised images (n, h, w, c) to representations (n, dim).

        `train` has no effect. The parameters belong to the image size that the network
        was initialised with.
        """
        del train
        self._check_images(images.shape)
        x = PatchEmbedding(
            self.dim, self.patch_size, dtype=self.dtype, name="patch_embedding"
        )(images)
        class_token = self.param(
            "class_token", nn.initializers.normal(1e-6), (self.dim,)
        )
        position = self.param(
            "position",
            nn.initializers.truncated_normal(0.02),
            (1 + x.shape[1], self.dim),
        )
        first = jnp.broadcast_to(class_token.astype(x.dtype), (len(x), 1, self.dim))
        x = jnp.concatenate((first, x), axis=1) + position.astype(x.dtype)[None]
        block_type = nn.remat(Block) if self.remat else Block
        for number in range(self.depth):
            x = block_type(self.heads, self.dtype, name=f"block{number + 1}")(x)
        x = _norm("norm")(x[:, 0])
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _check_images(self, shape: tuple[int, ...]) -> None:
        side = self.patch_size
        if len(shape) != 4:
            name = type(self).__name__
            raise ValueError(f"images have shape {shape}; {name} needs (n, h, w, c)")
        height, width = shape[1:3]
        if height % side or width % side:
            raise UsageError(
                f"patch_size={side} does not divide the sides of images of "
                f"{height}×{width} pixels; choose a common divisor of the sides, or "
                "resize the images"
            )
        if not self.has_variable("params", "position"):
            return
        expected = len(self.get_variable("params", "position")) - 1
        patches = (height // side) * (width // side)
        if patches != expected:
            raise UsageError(
                f"images of {height}×{width} pixels have {patches} patches of side "
                f"{side}, but the network was initialised with images of {expected} "
                "patches; resize the images to that size"
            )


class ViTTiny(ViT):
    """`ViT` with 192 features, 12 blocks and 3 heads."""

    dim: int = 192
    depth: int = 12
    heads: int = 3


class ViTSmall(ViT):
    """`ViT` with 384 features, 12 blocks and 6 heads."""

    dim: int = 384
    depth: int = 12
    heads: int = 6


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)
