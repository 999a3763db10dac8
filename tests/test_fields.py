import pytest

from isojax.configs import cifar10, digits, imagenet
from isojax.errors import UsageError
from isojax.fields import (
    EFFECTS,
    changed_fields,
    check_effects,
    complete_data,
    data_name,
    field_values,
    no_effect_reason,
)
from isojax.sweeps import plan
from isojax.training.config import check_config


def config_with(base, **changes):
    """A config with fields changed, __ for dots."""
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config


BYOL, DIRECTPRED = digits.get_config("byol"), digits.get_config("directpred")
CIFAR, OFFICIAL = cifar10.get_config(), cifar10.get_config("official")
STREAMED = config_with(CIFAR, data__folder="photos", data__streaming=True)
NO_JITTER = config_with(CIFAR, augment__jitter_probability=0.0)
VIT = config_with(digits.get_config(), model__backbone="vit_tiny")
OWN = config_with(digits.get_config(), model__backbone="ConvNet(width=8)")
# For each field a config in which it acts, and one in which it does not.
EXAMPLES = {
    "method.alpha": (DIRECTPRED, BYOL),
    "method.normalize": (DIRECTPRED, BYOL),
    "method.epsilon": (DIRECTPRED, config_with(DIRECTPRED, method__normalize=False)),
    "method.target_decay": (BYOL, digits.get_config("byol_noema")),
    "remat": (VIT, OWN),
    "model.width": (BYOL, VIT),
    "model.kernel_size": (BYOL, VIT),
    "model.stride": (BYOL, OWN),
    "model.padding": (BYOL, VIT),
    "model.max_pool": (BYOL, VIT),
    "model.patch_size": (VIT, BYOL),
    "model.predictor_hidden_dim": (BYOL, DIRECTPRED),
    "optimizer.trust_coefficient": (OFFICIAL, CIFAR),
    "optimizer.clip_trust_ratio": (OFFICIAL, CIFAR),
    "optimizer.warmup_start": (CIFAR, config_with(CIFAR, optimizer__warmup_epochs=0.0)),
    "data.name": (CIFAR, config_with(CIFAR, data__folder="photos")),
    "data.evaluation_split": (
        CIFAR,
        config_with(CIFAR, data__validation_fraction=0.1),
    ),
    "data.feed": (CIFAR, STREAMED),
    "data.classes": (STREAMED, CIFAR),
    "augment.brightness": (CIFAR, NO_JITTER),
    "augment.contrast": (CIFAR, NO_JITTER),
    "augment.saturation": (CIFAR, NO_JITTER),
    "augment.hue": (CIFAR, NO_JITTER),
    "augment.blur_sigma": (config_with(CIFAR, augment__blur_probability=0.1), CIFAR),
    "augment.crop_ratio": (
        config_with(digits.get_config(), augment__crop_scale=(0.5, 1.0)),
        digits.get_config(),
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_a_field_acts_in_one_config_and_not_in_another(name):
    acting, idle = EXAMPLES[name]
    assert name in field_values(acting) and name in field_values(idle)
    assert no_effect_reason(acting, name) is None
    assert no_effect_reason(idle, name)


def test_the_drawing_views_have_their_brightness_without_a_probability():
    assert no_effect_reason(digits.get_config(), "augment.brightness") is None


def test_views_that_lack_fields_are_left_to_their_own_check():
    config = config_with(digits.get_config(), augment__kind="simclr")
    for name in EFFECTS:
        if name.startswith("augment.") and name in field_values(config):
            assert no_effect_reason(config, name) is None


def test_a_field_used_only_by_the_second_view_has_an_effect():
    config = NO_JITTER.copy_and_resolve_references().unlock()
    config.augment_view2.jitter_probability = 0.5
    assert no_effect_reason(config, "augment.hue") is None


@pytest.mark.parametrize("name", EFFECTS)
def test_an_override_without_effect_is_refused_where_it_changes_something(name):
    _, idle = EXAMPLES[name]
    value = field_values(idle)[name]
    check_effects(idle, idle, {name: value})
    other = {
        bool: value is False,
        type(None): 2,
        int: 8,
        float: 0.123,
        str: "train",
        tuple: (0.3, 0.7),
    }[type(value)]
    config = config_with(idle, **{name.replace(".", "__"): other})
    assert other != value
    with pytest.raises(UsageError, match=f"--config.{name}=.* has no effect here: "):
        check_effects(config, idle, {name: other})


def test_an_override_acts_through_the_one_beside_it():
    config = config_with(CIFAR, optimizer__name="lars")
    check_effects(config, CIFAR, {"optimizer.trust_coefficient": 0.1})


def test_a_sweep_s_field_must_act_in_one_of_its_presets():
    fields = {"method.alpha": 0.7, "epochs": 3}
    effects = [
        changed_fields(config_with(base, method__alpha=0.7), base, fields)
        for base in (BYOL, DIRECTPRED)
    ]
    plan.check_effects(fields, effects)
    with pytest.raises(UsageError, match="method.alpha=0.7 "):
        plan.check_effects(fields, effects[:1])


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        ({"data.name": "svhn_cropped"}, {}),
        ({"data.name": "svhn_cropped", "data.mean": (0.5,)}, {"mean": (0.5,)}),
        ({"data.name": "digits"}, {"mean": (0.1307,), "std": (0.3081,)}),
        ({"data.folder": "photos"}, {}),
        ({"data.folder": "photos", "data.std": (0.5,)}, {"std": (0.5,)}),
        ({"data.resolution": 14}, {"mean": (0.1307,), "std": (0.3081,)}),
    ],
)
def test_another_data_set_s_normalisation_is_forgotten(overrides, left):
    default = digits.get_config()
    config = digits.get_config()
    config.update_from_flattened_dict(overrides)
    complete_data(config, default, overrides)
    for name in ("mean", "std"):
        assert config.data[name] == left.get(name)


def test_a_config_for_any_folder_keeps_its_normalisation_for_a_prepared_set():
    default, config = imagenet.get_config(), imagenet.get_config()
    overrides = {"data.name": "imagenet2012"}
    config.update_from_flattened_dict(overrides)
    check_effects(config, default, overrides)
    complete_data(config, default, overrides)
    check_config(config)
    assert config.data.mean == default.data.mean
    assert config.data.std == default.data.std


def test_images_of_a_folder_are_named_after_it():
    config = config_with(CIFAR, data__folder="/data/photos")
    complete_data(config, CIFAR, {"data.folder": "/data/photos"})
    assert config.data.name == "folder"
    assert data_name(config.data) == "photos"
    assert data_name(CIFAR.data) == "cifar10"
