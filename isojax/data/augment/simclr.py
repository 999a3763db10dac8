"""SimCLR's views: crop, flip, colour jitter, grey-scale, blur, solarisation.

The random numbers of a view are drawn at once from its key; the operations then act on
a whole batch, channels first and turned: (n, 3, columns, rows).
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from isojax.data.augment.bitwise import clip
from isojax.data.augment.blur import blur_batch
from isojax.data.augment.colour import (
    luma_of_channels,
    solarize,
    turn_hue_of_channels,
)
from isojax.data.augment.crop import BOX_DRAWS, crop_batch, crop_box
from isojax.data.augment.stages import stage

BRIGHTNESS, CONTRAST, SATURATION = range(3)
_ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION)))
_OTHER_DRAWS = 12  # beside those of the box


class SimclrDraws(NamedTuple):
    """All that is random in a batch of views; every field has shape (n, ...).

    Attributes:
      box: top, left, height, width of the crop, in pixels.
      is_flipped: whether the view is mirrored left to right.
      factors: of brightness, contrast and saturation, shape (n, 3); 1 without jitter.
      hue: part of a full turn; 0 without jitter.
      order: operations of `factors` as they follow each other, shape (n, 3).
      hue_place: how many of these come before the hue, 0 to 3.
      is_grey: whether colour is taken away.
      sigma: standard deviation of the blur, in pixels; 0 without.
      is_solarized: whether bright values are inverted.
    """

    box: tuple[Array, Array, Array, Array]
    is_flipped: Array
    factors: Array
    hue: Array
    order: Array
    hue_place: Array
    is_grey: Array
    sigma: Array
    is_solarized: Array


def simclr_view(key: Array, image: Array, *, config: ConfigDict) -> Array:
    """A random view of a colour image, as in SimCLR.

    Args:
      key: random key.
      image: float in [0, 1] or uint8, square, shape (size, size, 3).
      config: section with `crop_scale`, `crop_ratio` (as in `random_crop_box`);
        `flip_probability`, `jitter_probability`, `grayscale_probability`,
        `blur_probability`, `solarize_probability`; `brightness`, `contrast`,
        `saturation` (largest deviation of the factor from 1), `hue` (largest part of a
        turn either way); `blur_sigma`, smallest and largest, in pixels.

    Returns:
      The view, float32 in [0, 1], shape as `image`. What has probability or deviation
      0 is not computed.

    Source: Chen et al. 2020, appendix A, in the form of torchvision's transforms.
    """
    return simclr_views(key[None], image[None], config=config)[0]


def simclr_views(keys: Array, images: Array, *, config: ConfigDict) -> Array:
    """A view of each image by its own key, as `simclr_view`; shape (n, size, size, 3).

    Raises:
      ValueError: if the images are not square or have no three channels.
    """
    size = images.shape[1]
    if images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"views are made of square images of three channels, not {images.shape}"
        )
    draws = draw_parameters(keys, size=size, config=config)
    views = crop_batch(images, *draws.box, draws.is_flipped, size=size)
    turned = views.shape
    views = views.reshape(len(views), 3, -1)
    if config.jitter_probability > 0:
        views = _jitter(views, draws, config)
    if config.grayscale_probability > 0:
        grey = draws.is_grey.astype(jnp.float32)
        views = _blend(views, 1 - grey, grey, jnp.zeros_like(grey))
    if config.blur_probability > 0:
        kernel_size = blur_kernel_size(size)
        views = blur_batch(views.reshape(turned), draws.sigma, kernel_size=kernel_size)
        views = views.transpose(0, 2, 3, 1)
    else:
        views = views.reshape(turned).transpose(0, 3, 2, 1)
    if config.solarize_probability > 0:
        is_solarized = draws.is_solarized[:, None, None, None]
        views = jnp.where(is_solarized, solarize(views), views)
    return views


def blur_kernel_size(size: int) -> int:
    """Side of the blur's kernel: about a tenth of the image's, odd and at least 3."""
    return max(3, size // 20 * 2 + 1)


def draw_parameters(keys: Array, *, size: int, config: ConfigDict) -> SimclrDraws:
    """Draws the parameters of views.

    Args:
      keys: random keys, shape (n,).
      size: side of the images.
      config: as in `simclr_view`.

    Returns:
      The parameters of each view.
    """
    uniform = jax.vmap(
        lambda key: jax.random.uniform(key, (BOX_DRAWS + _OTHER_DRAWS,), jnp.float32)
    )(keys)
    box = crop_box(
        uniform[:, :BOX_DRAWS],
        size,
        size,
        scale=tuple(config.crop_scale),
        ratio=tuple(config.crop_ratio),
    )
    flip, jitter, *factors, hue, order, place, grey, blur, sigma, solarized = uniform[
        :, BOX_DRAWS:
    ].T
    is_jittered = jitter < config.jitter_probability
    deviations = (config.brightness, config.contrast, config.saturation)
    factors = [
        jnp.where(is_jittered, _factor(draw, deviation), 1.0)
        for draw, deviation in zip(factors, deviations, strict=True)
    ]
    is_blurred = blur < config.blur_probability
    low, high = config.blur_sigma
    return SimclrDraws(
        box=box,
        is_flipped=flip < config.flip_probability,
        factors=jnp.stack(factors, axis=1),
        hue=jnp.where(is_jittered, config.hue * (2 * hue - 1), 0.0),
        order=jnp.array(_ORDERS)[(order * len(_ORDERS)).astype(jnp.int32)],
        hue_place=(place * 4).astype(jnp.int32),
        is_grey=grey < config.grayscale_probability,
        sigma=jnp.where(is_blurred, low + (high - low) * sigma, 0.0),
        is_solarized=solarized < config.solarize_probability,
    )


def _factor(uniform: Array, deviation: float) -> Array:
    low = max(0.0, 1.0 - deviation)
    return low + (1.0 + deviation - low) * uniform


def _jitter(images: Array, draws: SimclrDraws, config: ConfigDict) -> Array:
    """Brightness, contrast, saturation and hue, in each image's own order.

    The first three are blends with something grey, so that one formula serves all and
    their order is a matter of its weights. They fill three of four places; the hue is
    turned after the first place or after the third, and one place stays idle so that
    as many blends come before the hue as should.
    """
    first = 1 - draws.hue_place % 2
    is_early = draws.hue_place < 2
    for place in range(4):
        images = _blend_at(place - first, images, draws, config)
        if config.hue > 0 and place in (0, 2):
            is_here = is_early if place == 0 else ~is_early
            images = _turn_hue(images, jnp.where(is_here, draws.hue, 0.0))
    return images


def _blend_at(
    place: Array, images: Array, draws: SimclrDraws, config: ConfigDict
) -> Array:
    """The blend that comes at `place`, shape (n,), in each image's order, if any."""
    if config.brightness == config.contrast == config.saturation == 0:
        return images
    index = jnp.clip(place, 0, 2)[:, None]
    operation = jnp.take_along_axis(draws.order, index, axis=1)
    factor = jnp.take_along_axis(draws.factors, operation, axis=1)[:, 0]
    factor = jnp.where((place >= 0) & (place < 3), factor, 1.0)
    operation = operation[:, 0]
    grey = jnp.where(operation == SATURATION, 1 - factor, 0.0)
    level = jnp.zeros_like(factor)
    if config.contrast > 0:
        mean = _mean_luma(images)
        level = jnp.where(operation == CONTRAST, (1 - factor) * mean, 0.0)
    return _blend(images, factor, grey, level)


@stage
def _blend(images: Array, factor: Array, grey: Array, level: Array) -> Array:
    """Image, its grey version and an even grey, added with weights of shape (n,)."""
    factor, grey, level = (x[:, None, None] for x in (factor, grey, level))
    return clip(factor * images + (grey * luma_of_channels(images) + level))


@stage
def _mean_luma(images: Array) -> Array:
    return luma_of_channels(images.mean(axis=2, keepdims=True))[:, 0, 0]


@stage
def _turn_hue(images: Array, delta: Array) -> Array:
    return turn_hue_of_channels(images, delta[:, None, None])
