import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax.configs import cifar10, digits, fashion_mnist
from isojax.data import Dataset, Split, channel_statistics
from isojax.errors import UsageError
from isojax.fields import field_values
from isojax.training.assembly import check_data, with_normalization
from isojax.training.config import check_config


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def numbers(config):
    """Name of every numeric field of a config, and a place in it if it is a tuple."""
    for name, value in field_values(config).items():
        if is_number(value):
            yield name, None
        elif isinstance(value, tuple) and all(is_number(number) for number in value):
            yield from ((name, place) for place in range(len(value)))


CONFIGS = {"digits": digits.get_config(), "cifar10": cifar10.get_config("official")}
NUMBERS = [(file, *number) for file in CONFIGS for number in numbers(CONFIGS[file])]


def changed(file, name, value, place=None):
    """A copy of a config with one field changed, whatever the type of the value."""
    fields = json.loads(json.dumps(CONFIGS[file].to_dict()))
    *sections, last = name.split(".")
    section = fields
    for part in sections:
        section = section[part]
    if place is None:
        section[last] = value
    else:
        section[last][place] = value
    return ConfigDict(fields)


def test_the_numeric_fields_are_found():
    found = {
        f"{name}[{place}]" if place is not None else name for _, name, place in NUMBERS
    }
    assert {"seed", "augment.rotation", "augment.blur_sigma[1]", "data.std[2]"} <= found
    assert len(found) > 50


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e39])
@pytest.mark.parametrize(("file", "name", "place"), NUMBERS)
def test_a_number_that_cannot_be_computed_with_is_refused(file, name, place, value):
    with pytest.raises(UsageError, match=f"config.{name}=.*(finite|float32)"):
        check_config(changed(file, name, value, place))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 2**31, "int32"),
        ("seed", 2**64, "below 2..64"),
        ("seed", -1, "at least 0"),
        ("data.std", [], "one value per channel, each above 0"),
        ("data.mean", [], "one value per channel"),
        ("data.std", [0.5, "a"], "numbers in parentheses"),
        ("augment.crop_scale", [1, "a"], "numbers in parentheses"),
        ("augment.crop_scale", [], "the smallest and the largest"),
    ],
)
def test_a_value_of_no_use_is_refused(name, value, message):
    with pytest.raises(UsageError, match=f"config.{name}=.*{message}"):
        check_config(changed("digits", name, value))


def test_more_steps_than_are_counted_are_refused():
    split = Split(np.zeros((640, 28, 28, 1), np.uint8), np.zeros(640, np.int32))
    dataset = Dataset(split, split, split, "test", 10, ())
    config = changed("digits", "epochs", 2**31 - 1)
    check_config(config)
    with pytest.raises(UsageError, match="set it to 214748364 or less"):
        check_data(config, dataset)


def test_views_of_two_channels_are_refused():
    split = Split(np.zeros((640, 28, 28, 2), np.uint8), np.zeros(640, np.int32))
    dataset = Dataset(split, split, split, "test", 10, ())
    with pytest.raises(UsageError, match="kind=simclr needs .* 1 or 3 channels"):
        check_data(fashion_mnist.get_config(), dataset)


def test_a_missing_normalisation_is_that_of_the_training_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (640, 4, 4, 2), dtype=np.uint8)
    split = Split(images, np.zeros(640, np.int32))
    other = Split(images[:1], split.labels[:1])
    dataset = Dataset(split, other, other, "test", 10, ())
    config = digits.get_config()
    assert with_normalization(config, dataset) is config
    config.data.mean = config.data.std = None
    check_config(config)
    complete = with_normalization(config, dataset)
    assert (complete.data.mean, complete.data.std) == channel_statistics(images)
    assert config.data.mean is None
    config.data.mean = (0.5, 0.5)
    assert with_normalization(config, dataset).data.mean == (0.5, 0.5)


def test_images_of_one_colour_have_no_deviation_to_divide_by():
    split = Split(np.full((640, 4, 4, 1), 7, np.uint8), np.zeros(640, np.int32))
    dataset = Dataset(split, split, split, "test", 10, ())
    config = digits.get_config()
    config.data.std = None
    with pytest.raises(UsageError, match="0.* set config.data.std"):
        with_normalization(config, dataset)
