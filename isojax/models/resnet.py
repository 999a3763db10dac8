"""ResNet-18 with the stems that small images need."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from isojax.models.convolution import Conv
from isojax.models.normalization import BatchNorm

_BLOCKS_PER_STAGE = (2, 2, 2, 2)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, projected where the shape changes.

    Attributes:
      features: output channels.
      stride: of the first convolution.
      axis_name: mapped axis over which a global batch is spread, if any.
    """

    features: int
    stride: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps (n, h, w, c) to (n, ceil(h / stride), ceil(w / stride), features)."""
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, self.stride, name="shortcut_conv")(x)
            shortcut = BatchNorm(axis_name=self.axis_name, name="shortcut_norm")(
                shortcut, train
            )
        x = Conv(self.features, 3, self.stride, name="conv1")(x)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="norm1")(x, train))
        x = Conv(self.features, 3, name="conv2")(x)
        x = BatchNorm(axis_name=self.axis_name, name="norm2")(x, train)
        return nn.relu(x + shortcut)


class ResNet18(nn.Module):
    """ResNet-18 without its classifier: images to representations.

    Convolutions have no bias and start He-normal over the fan-out; BatchNorm's scale
    starts at 1 everywhere, the last of each block included.

    Attributes:
      width: channels of the first stage; the representation has 8 · width.
      kernel_size: side of the first convolution: 3 for small images, 7 for ImageNet's.
      stride: of the first convolution.
      max_pool: whether a 3×3 max-pool of stride 2 follows the first convolution.
      axis_name: mapped axis over which a global batch is spread, if any.

    Source: He et al. 2016; stems as in Halvagal et al. 2023, appendix D, table 3.
    """

    width: int = 64
    kernel_size: int = 3
    stride: int = 1
    max_pool: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Maps normalised images (n, h, w, c) to representations (n, 8 · width)."""
        if images.ndim != 4:
            raise ValueError(
                f"images have shape {images.shape}; ResNet18 takes (n, h, w, c)"
            )
        x = Conv(self.width, self.kernel_size, self.stride, name="conv")(images)
        x = nn.relu(BatchNorm(axis_name=self.axis_name, name="norm")(x, train))
        if self.max_pool:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(_BLOCKS_PER_STAGE):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = BasicBlock(
                    self.width * 2**stage,
                    stride,
                    axis_name=self.axis_name,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train)
        return jnp.mean(x, axis=(1, 2))
