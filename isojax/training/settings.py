"""Turns a config into the settings that views, models, data and training take.

Only this module, the checks of a config and the code that assembles a run read a
`ConfigDict`; everything below them takes plain values or NamedTuples.
"""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from isojax.data import ImageSource
from isojax.data.augment import KINDS, ViewSettings
from isojax.data.augment.crop import WHOLE_IMAGE, CropSettings
from isojax.errors import choose
from isojax.models import NetworkSettings
from isojax.training.method import Method
from isojax.training.optimizer import OptimizerSettings

T = TypeVar("T")
# Types in which the network computes its products.
PRECISIONS: dict[str, DTypeLike] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class ViewPair(NamedTuple):
    """How the two views of an image are made.

    Attributes:
      first: settings of view 1.
      second: settings of view 2.
      mean: mean of each channel, in [0, 1].
      std: standard deviation of each channel.
    """

    first: ViewSettings
    second: ViewSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]


def method_settings(config: ConfigDict) -> Method:
    """Returns the settings of section `method` of a config."""
    return _from_section(Method, config.method)


def network_settings(config: ConfigDict) -> NetworkSettings:
    """Returns the settings of section `model` of a config."""
    return _from_section(NetworkSettings, config.model)


def optimizer_settings(config: ConfigDict) -> OptimizerSettings:
    """Returns the settings of section `optimizer` of a config."""
    return _from_section(OptimizerSettings, config.optimizer)


def image_source(data: ConfigDict) -> ImageSource:
    """Returns the image source that section `data` of a config names."""
    return _from_section(ImageSource, data)


def view_settings(augment: ConfigDict) -> ViewSettings:
    """Returns the views that a section such as `augment` of a config describes.

    Args:
      augment: section with `kind` and the fields of that kind.

    Raises:
      UsageError: if the kind is unknown.
    """
    kind = choose("config.augment.kind", augment.kind, KINDS)
    return ViewSettings(augment.kind, _from_section(kind.settings, augment))


def view_pair(config: ConfigDict) -> ViewPair:
    """Returns both views of a run, as the devices make them.

    Args:
      config: the run's configuration, with a mean and a standard deviation. Fields of
        `augment_view2` replace those of `augment` in the second view. With
        `data.streaming` the devices do not crop, because the host does.
    """
    first, second = _both_views(config)
    if config.data.streaming:
        first, second = _without_crop(first), _without_crop(second)
    return ViewPair(
        first, second, mean=tuple(config.data.mean), std=tuple(config.data.std)
    )


def crop_pair(config: ConfigDict) -> tuple[CropSettings, CropSettings]:
    """Returns the crops of both views of a run.

    Args:
      config: the run's configuration, whose views have crops.
    """
    first, second = (view.config for view in _both_views(config))
    return (
        CropSettings(first.crop_scale, first.crop_ratio),
        CropSettings(second.crop_scale, second.crop_ratio),
    )


def _both_views(config: ConfigDict) -> tuple[ViewSettings, ViewSettings]:
    second = ConfigDict(config.augment.to_dict() | config.augment_view2.to_dict())
    return view_settings(config.augment), view_settings(second)


def _without_crop(views: ViewSettings) -> ViewSettings:
    scale, ratio = WHOLE_IMAGE
    return views._replace(
        config=views.config._replace(crop_scale=scale, crop_ratio=ratio)
    )


def _from_section(settings: type[T], section: ConfigDict) -> T:
    """Builds a NamedTuple from the fields of a config section with the same names."""
    names: tuple[str, ...] = getattr(settings, "_fields")  # noqa: B009
    return settings(**{name: _plain(section[name]) for name in names})


def _plain(value: Any) -> Any:
    """Turns the lists that a config file holds into tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value
