"""ResNets with stems for small images."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.models.convolution import Conv
from isojax.models.normalization import BatchNorm
from isojax.models.pooling import max_pool


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is projected if the shape changes.

    Attributes:
      features: output channels.
      stride: stride of the first convolution.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: type in which products are computed.
    """

    expansion: ClassVar[int] = 1  # output channels, relative to `features`
    features: int
    stride: int = 1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, h, w, c) to (n, ceil(h / stride), ceil(w / stride), features)."""
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        shortcut = _shortcut(x, self.features, self.stride, train, conv=conv, norm=norm)
        x = conv(self.features, 3, self.stride, name="conv1")(x)
        x = nn.relu(norm(name="norm1")(x, train))
        x = conv(self.features, 3, name="conv2")(x)
        x = norm(name="norm2")(x, train)
        return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut, projected if the shape changes.

    Attributes:
      features: channels of the first two convolutions; the output has four times as
        many.
      stride: stride of the 3×3 convolution, as in torchvision.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: type in which products are computed.
    """

    expansion: ClassVar[int] = 4  # output channels, relative to `features`
    features: int
    stride: int = 1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, h, w, c) to (n, ceil(h / stride), ceil(w / stride), 4 features)."""
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        outputs = self.expansion * self.features
        shortcut = _shortcut(x, outputs, self.stride, train, conv=conv, norm=norm)
        x = nn.relu(norm(name="norm1")(conv(self.features, 1, name="conv1")(x), train))
        x = conv(self.features, 3, self.stride, name="conv2")(x)
        x = nn.relu(norm(name="norm2")(x, train))
        x = norm(name="norm3")(conv(outputs, 1, name="conv3")(x), train)
        return nn.relu(x + shortcut)


def _shortcut(
    x: Array,
    outputs: int,
    stride: int,
    train: bool,
    *,
    conv: Callable[..., Conv],
    norm: Callable[..., BatchNorm],
) -> Array:
    """Returns a block's input, projected if the block changes its shape."""
    if stride == 1 and x.shape[-1] == outputs:
        return x
    x = conv(outputs, 1, stride, name="shortcut_conv")(x)
    return norm(name="shortcut_norm")(x, train)


class ResNet(nn.Module):
    """ResNet without its classifier: maps images to representations.

    Convolutions have no bias and are initialised He-normal over the fan-out. The scale
    of every BatchNorm is initialised to 1, including the last one of each block.

    Attributes:
      block_type: class of the blocks.
      blocks: number of blocks of each stage.
      width: channels of the first stage; the representation has 8 · width features,
        and 32 · width with `Bottleneck` blocks.
      kernel_size: side of the first convolution: 3 for small images, 7 for ImageNet.
      stride: stride of the first convolution.
      padding: zeros around the images for the first convolution; by default
        (kernel_size - 1) / 2.
      max_pool: whether a 3×3 max-pool of stride 2 follows the first convolution.
      axis_name: mapped axis over which a global batch is spread, if any.
      dtype: type in which products are computed; the representation is at least
        float32.
      remat: whether the backward pass recomputes the activations of each block instead
        of storing them. This saves memory and costs time; the numbers are the same.

    Source: He et al. 2016; stems as in Halvagal et al. 2023, appendix D, table 3.
    """

    block_type: ClassVar[type[BasicBlock] | type[Bottleneck]]
    blocks: ClassVar[tuple[int, int, int, int]]
    width: int = 64
    kernel_size: int = 3
    stride: int = 1
    max_pool: bool = False
    padding: int | None = None
    axis_name: str | None = None
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Maps normalised images (n, h, w, c) to representations (n, features)."""
        if images.ndim != 4:
            raise ValueError(
                f"images have shape {images.shape}; {type(self).__name__} needs "
                "(n, h, w, c)"
            )
        x = Conv(
            self.width,
            self.kernel_size,
            self.stride,
            self.padding,
            dtype=self.dtype,
            name="conv",
        )(images)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="norm")(x, train))
        if self.max_pool:
            x = max_pool(x)
        # `train` is argument 2 of the block's call, counting `self`.
        block_type = (
            nn.remat(self.block_type, static_argnums=2)
            if self.remat
            else self.block_type
        )
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = block_type(
                    self.width * 2**stage,
                    stride,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return jnp.mean(x, axis=(1, 2))


class ResNet18(ResNet):
    """`ResNet` with two `BasicBlock` blocks in each stage."""

    block_type = BasicBlock
    blocks = (2, 2, 2, 2)


class ResNet34(ResNet):
    """`ResNet` with 3, 4, 6 and 3 `BasicBlock` blocks in its stages."""

    block_type = BasicBlock
    blocks = (3, 4, 6, 3)


class ResNet50(ResNet):
    """`ResNet` with 3, 4, 6 and 3 `Bottleneck` blocks in its stages."""

    block_type = Bottleneck
    blocks = (3, 4, 6, 3)
