import pytest

from isojax.configs import cifar10, digits
from isojax.errors import UsageError
from isojax.training.augment_checks import check_augmentation


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "simclr2", "augment.kind=simclr2: choose one of simclr, affine"),
        ("kind", "affine", "needs the fields rotation, log_scale"),
        ("crop_scale", (0.5,), "give the smallest and the largest, above 0"),
        ("crop_scale", (0.5, 1.5), "at most 1"),
        ("crop_scale", (0.0, 1.0), "give the smallest and the largest, above 0"),
        ("crop_scale", (0.9, 0.5), "give the smallest and the largest, above 0"),
        ("crop_ratio", (0.0, 1.0), "give the smallest and the largest, above 0"),
        ("crop_ratio", (1.3, 0.7), "give the smallest and the largest, above 0"),
        ("crop_ratio", (1.0,), "give the smallest and the largest, above 0"),
        ("blur_sigma", (-0.1, 1.0), "give the smallest and the largest, 0 or more"),
        ("hue", -0.1, "augment.hue=-0.1: set it to at least 0, at most 0.5"),
        ("flip_probability", -0.1, "set it to at least 0, at most 1"),
        ("blur_sigma", (2.0, 1.0), "give the smallest and the largest, 0 or more"),
        ("hue", 0.6, "augment.hue=0.6: set it to at least 0, at most 0.5"),
        ("contrast", -0.1, "augment.contrast=-0.1: set it to 0 or more"),
        ("flip_probability", 1.1, "set it to at least 0, at most 1"),
    ],
)
def test_views_that_cannot_be_made_are_refused(field, value, message):
    config = cifar10.get_config().unlock()
    check_augmentation(config)
    config.augment[field] = value
    with pytest.raises(UsageError) as raised:
        check_augmentation(config)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_scale", (1.0, 1.0)),
        ("crop_ratio", (1.0, 1.0)),
        ("blur_sigma", (0.0, 0.0)),
        ("hue", 0.5),
        ("contrast", 0.0),
        ("flip_probability", 0.0),
        ("flip_probability", 1.0),
    ],
)
def test_limits_are_allowed(field, value):
    config = cifar10.get_config().unlock()
    config.augment[field] = value
    check_augmentation(config)


@pytest.mark.parametrize(
    ("field", "largest"),
    [
        ("rotation", 180.0),
        ("shift", 1.0),
        ("shear", 5.0),
        ("log_scale", 3.0),
        ("log_aspect", 3.0),
    ],
)
def test_an_affine_view_keeps_something_of_its_image(field, largest):
    config = digits.get_config()
    config.augment[field] = largest
    check_augmentation(config)
    config.augment[field] = 1.01 * largest
    with pytest.raises(UsageError, match=f"config.augment.{field}=.*at most"):
        check_augmentation(config)
    config.augment[field] = -0.01
    with pytest.raises(UsageError, match=f"config.augment.{field}=.*at least 0"):
        check_augmentation(config)


def test_the_second_view_is_checked_too():
    config = cifar10.get_config()
    config.augment_view2.solarize_probability = 2.0
    with pytest.raises(UsageError, match="config.augment_view2.solarize_probability=2"):
        check_augmentation(config)


def test_the_digits_lack_the_fields_of_other_views():
    config = digits.get_config()
    check_augmentation(config)
    config.augment.kind = "simclr"
    with pytest.raises(UsageError, match="needs the fields flip_probability"):
        check_augmentation(config)
