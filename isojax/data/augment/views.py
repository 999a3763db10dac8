"""Normalised views of a batch of images."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from isojax.data.augment.affine import affine_view
from isojax.data.augment.simclr import simclr_views
from isojax.errors import UsageError


def random_views(
    keys: Array,
    images: Array,
    *,
    config: ConfigDict,
    mean: tuple,
    std: tuple,
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """A random view of every image, normalised.

    Args:
      keys: a random key for each image, shape (n,).
      images: uint8, square, shape (n, size, size, c).
      config: section with `kind`, "simclr" or "affine", and what `simclr_view` or
        `affine_view` reads.
      mean: of each channel, in [0, 1].
      std: of each channel.
      dtype: float type of the result.

    Returns:
      The views, shape as `images`.

    Raises:
      UsageError: if there is no such kind.
    """
    if config.kind not in KINDS:
        raise UsageError(
            f"there is no augment.kind {config.kind!r}; choose one of "
            f"{', '.join(KINDS)}"
        )

    def make(keys: Array, images: Array) -> Array:
        views = KINDS[config.kind](keys, images, config=config)
        return normalize(views, mean=mean, std=std).astype(dtype)

    return jax.lax.platform_dependent(
        keys, images, cpu=functools.partial(_in_chunks, make), default=make
    )


def _in_chunks(
    make: Callable[[Array, Array], Array], keys: Array, images: Array
) -> Array:
    """Makes views of a few images at a time, which stay in a processor's cache."""
    n = len(images)
    most = min(n, max(1, _CHUNK_VALUES // images[0].size))
    # A divisor, since what remained would have to be copied behind the rest.
    chunk = max(size for size in range(1, most + 1) if n % size == 0)
    parts = (x.reshape(n // chunk, chunk, *x.shape[1:]) for x in (keys, images))
    views = jax.lax.map(lambda part: make(*part), tuple(parts))
    return views.reshape(images.shape)


def normalize(images: Array, *, mean: tuple, std: tuple) -> Array:
    """Subtracts `mean`, divides by `std`, one value a channel; shape (..., h, w, c)."""
    shape = (1,) * (images.ndim - 1) + (-1,)
    mean = jnp.array(mean, images.dtype).reshape(shape)
    std = jnp.array(std, images.dtype).reshape(shape)
    return (images - mean) / std


def _affine_views(keys: Array, images: Array, *, config: ConfigDict) -> Array:
    view = jax.vmap(functools.partial(affine_view, config=config))
    return view(keys, images.astype(jnp.float32) / 255.0)


_CHUNK_VALUES = 2**17  # 512 KiB, while two or three arrays are in use at a time
KINDS = {"simclr": simclr_views, "affine": _affine_views}
