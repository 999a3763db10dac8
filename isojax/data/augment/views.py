"""Normalised random views of a batch of images."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from isojax.data.augment.affine import AffineSettings, affine_views
from isojax.data.augment.simclr import SimclrSettings, simclr_views
from isojax.errors import choose

_CHUNK_VALUES = 2**17  # 512 KiB, while two or three arrays are in use at a time


class ViewKind(NamedTuple):
    """A family of views.

    Attributes:
      settings: NamedTuple class of its settings.
      make: maps keys (n,), images (n, size, size, c) and settings as `config` to views
        in [0, 1] of the shape of the images.
    """

    settings: type[Any]
    make: Callable[..., Array]


KINDS = {
    "simclr": ViewKind(SimclrSettings, simclr_views),
    "affine": ViewKind(AffineSettings, affine_views),
}


class ViewSettings(NamedTuple):
    """Kind and settings of the views on one side of a pair.

    Attributes:
      kind: a name in `KINDS`.
      config: settings of that kind.
    """

    kind: str
    config: Any


def random_views(
    keys: Array,
    images: Array,
    *,
    views: ViewSettings,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """Returns a normalised random view of every image.

    Args:
      keys: a random key for each image, shape (n,).
      images: uint8, square, shape (n, size, size, c).
      views: kind and settings of the views.
      mean: mean of each channel, in [0, 1].
      std: standard deviation of each channel.
      dtype: float type of the result.

    Returns:
      The views, shape as `images`.

    Raises:
      UsageError: if the kind is unknown.

    Example:
      >>> no_change = AffineSettings((1.0, 1.0), (1.0, 1.0), 0, 0, 0, 0, 0, 0, 0)
      >>> settings = ViewSettings("affine", no_change)
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> white = jnp.full((2, 8, 8, 1), 255, "uint8")
      >>> views = random_views(keys, white, views=settings, mean=[0.5], std=[0.5])
      >>> float(views.min()), float(views.max())
      (1.0, 1.0)
    """
    make_views = choose("config.augment.kind", views.kind, KINDS).make

    def make(keys: Array, images: Array) -> Array:
        made = make_views(keys, images, config=views.config)
        return normalize(made, mean=mean, std=std).astype(dtype)

    return jax.lax.platform_dependent(
        keys, images, cpu=functools.partial(_in_chunks, make), default=make
    )


def _in_chunks(
    make: Callable[[Array, Array], Array], keys: Array, images: Array
) -> Array:
    """Makes views of a few images at a time, which fit in a processor's cache."""
    n = len(images)
    most = min(n, max(1, _CHUNK_VALUES // images[0].size))
    # A divisor of n, because a remainder would have to be copied behind the rest.
    chunk = max(size for size in range(1, most + 1) if n % size == 0)
    parts = (x.reshape(n // chunk, chunk, *x.shape[1:]) for x in (keys, images))
    views = jax.lax.map(lambda part: make(*part), tuple(parts))
    return views.reshape(images.shape)


def normalize(images: Array, *, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Subtracts `mean` and divides by `std`, per channel; shape (..., h, w, c).

    Example:
      >>> image = jnp.array([[[0.25, 0.75]]])
      >>> normalize(image, mean=(0.5, 0.5), std=(0.25, 0.25))[0, 0].tolist()
      [-1.0, 1.0]
    """
    shape = (1,) * (images.ndim - 1) + (-1,)
    means = jnp.array(mean, images.dtype).reshape(shape)
    stds = jnp.array(std, images.dtype).reshape(shape)
    return (images - means) / stds
