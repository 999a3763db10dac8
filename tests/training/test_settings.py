import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from isojax.configs import cifar10, digits, stl10
from isojax.data.augment import AffineSettings, SimclrSettings
from isojax.errors import UsageError
from isojax.training.settings import (
    PRECISIONS,
    image_source,
    method_settings,
    network_settings,
    optimizer_settings,
    view_pair,
    view_settings,
)


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("method", method_settings),
        ("model", network_settings),
        ("optimizer", optimizer_settings),
    ],
)
def test_a_section_has_the_fields_of_its_settings_and_no_others(section, settings):
    config = digits.get_config()
    assert settings(config)._asdict() == config[section].to_dict()


def test_lists_of_a_config_file_become_tuples():
    section = ConfigDict(digits.get_config().augment.to_dict())
    section.crop_scale = [0.5, 1.0]
    views = view_settings(section)
    assert views.kind == "affine" and isinstance(views.config, AffineSettings)
    assert views.config.crop_scale == (0.5, 1.0)


def test_an_unknown_kind_of_views_is_refused():
    section = ConfigDict(digits.get_config().augment.to_dict())
    section.kind = "afine"
    with pytest.raises(UsageError, match="kind=afine: .* simclr, affine"):
        view_settings(section)


def test_fields_of_the_second_view_replace_those_of_the_first():
    config = stl10.get_config("official")
    pair = view_pair(config)
    assert isinstance(pair.first.config, SimclrSettings)
    assert (pair.mean, pair.std) == (config.data.mean, config.data.std)
    changes = {"blur_probability": 0.1, "solarize_probability": 0.2}
    assert config.augment_view2.to_dict() == changes
    assert pair.second.config == pair.first.config._replace(**changes)
    assert pair.second.config != pair.first.config


def test_the_images_are_those_of_the_data_section():
    source = image_source(cifar10.get_config().data)
    assert (source.name, source.resolution, source.evaluation_split) == (
        "cifar10",
        32,
        "test",
    )


def test_precisions_are_types_of_jax():
    assert jnp.dtype(PRECISIONS["bfloat16"]).itemsize == 2
    assert jnp.dtype(PRECISIONS["float32"]).itemsize == 4
