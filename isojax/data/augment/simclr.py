"""SimCLR's views: crop, flip, colour jitter, grey-scale, blur, solarisation.

All random numbers of a view are drawn from its key first. The operations then act on
the whole batch, channels first and transposed: (n, c, columns, rows).
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.data.augment.bitwise import clip
from isojax.data.augment.blur import blur_batch
from isojax.data.augment.colour import (
    luma_of_channels,
    shift_hue_of_channels,
    solarize,
)
from isojax.data.augment.crop import (
    BOX_DRAWS,
    WHOLE_IMAGE,
    CropSettings,
    crop_batch,
    crop_box,
    mirror_batch,
)
from isojax.data.augment.stages import stage

BRIGHTNESS, CONTRAST, SATURATION = range(3)
_ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION)))
_OTHER_DRAWS = 12  # uniform numbers in addition to those of the box


class SimclrSettings(NamedTuple):
    """Settings of `simclr_view`. A probability or deviation of 0 skips its operation.

    Attributes:
      crop_scale: smallest and largest area of the crop, as a fraction of the image's.
      crop_ratio: smallest and largest width over height of the crop. (1, 1) for both
        does not crop.
      flip_probability: probability of mirroring left to right.
      jitter_probability: probability of the next four operations, in random order.
      brightness: largest deviation of the brightness factor from 1.
      contrast: largest deviation of the contrast factor from 1.
      saturation: largest deviation of the saturation factor from 1.
      hue: largest shift of the hue in either direction, as a fraction of a full turn.
      grayscale_probability: probability of removing colour.
      blur_probability: probability of Gaussian blur.
      blur_sigma: smallest and largest standard deviation of the blur, in pixels.
      solarize_probability: probability of inverting values of at least 0.5.
    """

    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip_probability: float
    jitter_probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grayscale_probability: float
    blur_probability: float
    blur_sigma: tuple[float, float]
    solarize_probability: float


class SimclrDraws(NamedTuple):
    """Random parameters of a batch of views; every field has shape (n, ...).

    Attributes:
      box: top, left, height, width of the crop, in pixels.
      is_flipped: whether the view is mirrored left to right.
      factors: brightness, contrast and saturation factors, shape (n, 3); 1 without
        jitter.
      hue: shift of the hue, as a fraction of a full turn; 0 without jitter.
      order: order in which the operations of `factors` are applied, shape (n, 3).
      hue_place: number of these operations applied before the hue, 0 to 3.
      is_grey: whether colour is removed.
      sigma: standard deviation of the blur, in pixels; 0 without blur.
      is_solarized: whether values of at least 0.5 are inverted.
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


def simclr_view(key: Array, image: Array, *, config: SimclrSettings) -> Array:
    """Returns a random view of an image, as in SimCLR.

    An image with one channel is grey: saturation, hue and the removal of colour leave
    it unchanged.

    Args:
      key: random key.
      image: float in [0, 1] or uint8, square, shape (size, size, c), c = 1 or 3.
      config: settings of the view; any object with the fields of `SimclrSettings`.

    Returns:
      The view, float32 in [0, 1], shape as `image`.

    Example:
      >>> settings = SimclrSettings(
      ...     crop_scale=(0.08, 1.0),
      ...     crop_ratio=(0.75, 1.33),
      ...     flip_probability=0.5,
      ...     jitter_probability=0.8,
      ...     brightness=0.4,
      ...     contrast=0.4,
      ...     saturation=0.2,
      ...     hue=0.1,
      ...     grayscale_probability=0.2,
      ...     blur_probability=0.5,
      ...     blur_sigma=(0.1, 2.0),
      ...     solarize_probability=0.1,
      ... )
      >>> simclr_view(jax.random.key(0), jnp.ones((32, 32, 3)), config=settings).shape
      (32, 32, 3)

    Source: Chen et al. 2020, appendix A, in the form of torchvision's transforms.
    """
    return simclr_views(key[None], image[None], config=config)[0]


def simclr_views(keys: Array, images: Array, *, config: SimclrSettings) -> Array:
    """Returns a view of each image by its own key, as `simclr_view`.

    Args:
      keys: random keys, shape (n,).
      images: float in [0, 1] or uint8, square, shape (n, size, size, c), c = 1 or 3.
      config: settings of the views.

    Returns:
      The views, float32 in [0, 1], shape as `images`.

    Raises:
      ValueError: if the images are not square or do not have one or three channels.

    Example:
      >>> one, off = (1.0, 1.0), [0.0] * 8
      >>> no_change = SimclrSettings(one, one, *off, (0.1, 2.0), 0.0)
      >>> keys, images = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 8, 8, 3))
      >>> views = simclr_views(keys, images, config=no_change)
      >>> bool(jnp.allclose(views, images))
      True
    """
    size, channels = images.shape[1], images.shape[-1]
    if images.shape[1:] != (size, size, channels) or channels not in (1, 3):
        raise ValueError(
            f"simclr views need square images with 1 or 3 channels, not {images.shape}"
        )
    draws = draw_parameters(keys, size=size, config=config)
    if CropSettings(config.crop_scale, config.crop_ratio) == WHOLE_IMAGE:
        views = mirror_batch(images, draws.is_flipped)
    else:
        views = crop_batch(images, *draws.box, draws.is_flipped, size=size)
    transposed = views.shape
    views = views.reshape(len(views), channels, -1)
    if config.jitter_probability > 0:
        views = _jitter(views, draws, config)
    if config.grayscale_probability > 0 and channels == 3:
        grey = draws.is_grey.astype(jnp.float32)
        views = _blend(views, 1 - grey, grey, jnp.zeros_like(grey))
    if config.blur_probability > 0:
        kernel_size = blur_kernel_size(size)
        views = blur_batch(
            views.reshape(transposed), draws.sigma, kernel_size=kernel_size
        )
        views = views.transpose(0, 2, 3, 1)
    else:
        views = views.reshape(transposed).transpose(0, 3, 2, 1)
    if config.solarize_probability > 0:
        is_solarized = draws.is_solarized[:, None, None, None]
        views = jnp.where(is_solarized, solarize(views), views)
    return views


def blur_kernel_size(size: int) -> int:
    """Side of the blur kernel: about a tenth of the image side, odd, at least 3."""
    return max(3, size // 20 * 2 + 1)


def draw_parameters(keys: Array, *, size: int, config: SimclrSettings) -> SimclrDraws:
    """Draws the random parameters of views.

    Args:
      keys: random keys, shape (n,).
      size: side of the images, in pixels.
      config: settings of the views.

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
        scale=config.crop_scale,
        ratio=config.crop_ratio,
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


def _jitter(images: Array, draws: SimclrDraws, config: SimclrSettings) -> Array:
    """Applies brightness, contrast, saturation and hue, in each image's own order.

    Brightness, contrast and saturation blend the image with a grey one. One formula
    computes all three blends, and only its weights depend on the order. There are four
    places for the three blends, and the hue is shifted after the first or the third
    place. The first or the last place stays empty, so that the drawn number of blends
    precedes the hue.
    """
    first = 1 - draws.hue_place % 2
    is_early = draws.hue_place < 2
    for place in range(4):
        images = _blend_at(place - first, images, draws, config)
        if config.hue > 0 and images.shape[1] == 3 and place in (0, 2):
            is_here = is_early if place == 0 else ~is_early
            images = _shift_hue(images, jnp.where(is_here, draws.hue, 0.0))
    return images


def _blend_at(
    place: Array, images: Array, draws: SimclrDraws, config: SimclrSettings
) -> Array:
    """Applies the blend at `place`, shape (n,), of each image's order, if any."""
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
    """Adds image, its grey version and uniform grey, with weights of shape (n,)."""
    factor, grey, level = (x[:, None, None] for x in (factor, grey, level))
    return clip(factor * images + (grey * luma_of_channels(images) + level))


@stage
def _mean_luma(images: Array) -> Array:
    return luma_of_channels(images.mean(axis=2, keepdims=True))[:, 0, 0]


@stage
def _shift_hue(images: Array, delta: Array) -> Array:
    return shift_hue_of_channels(images, delta[:, None, None])
