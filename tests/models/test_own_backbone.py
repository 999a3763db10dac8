from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from isojax.errors import UsageError
from isojax.models import check_backbone, describe_module
from isojax.models.own_backbone import own_backbone

SHAPE = (8, 8, 1)


class Plain(nn.Module):
    """A backbone without BatchNorm."""

    width: int = 3

    @nn.compact
    def __call__(self, images, train):
        return nn.Conv(self.width, (3, 3))(images).mean(axis=(1, 2))


class Normalized(nn.Module):
    """A backbone whose statistics are those of the global batch."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(3, (3, 3))(images)
        x = nn.BatchNorm(not train, axis_name=self.axis_name)(x)
        return x.mean(axis=(1, 2))


class Normalized1(nn.Module):
    """A backbone whose statistics are those of one device's images."""

    @nn.compact
    def __call__(self, images, train):
        return nn.BatchNorm(not train)(nn.Conv(3, (3, 3))(images)).mean(axis=(1, 2))


class WithoutTrain(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.mean(axis=(1, 2)))


class FeatureMap(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Conv(3, (3, 3))(images)


class Pair(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(3)(images.mean(axis=(1, 2)))
        return x, x


class OneRow(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(3)(images.mean(axis=(1, 2))).reshape(1, -1)


class FixedBatch(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(3)(images.reshape(1, -1))


class WidthOfBatch(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(3)(images.mean(axis=(1, 2)))
        return x @ x.T


class Dropout(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(3)(images.mean(axis=(1, 2)))
        return nn.Dropout(0.5, deterministic=not train)(x)


class Counting(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        self.variable("counts", "images", jnp.zeros, ())
        return nn.Dense(3)(images.mean(axis=(1, 2)))


class ChangesInEvaluation(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.BatchNorm(False)(nn.Dense(3)(images.mean(axis=(1, 2))))


class NoParameters(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return images.mean(axis=(1, 2))


class Half(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(3)(images.mean(axis=(1, 2))).astype(jnp.bfloat16)


@pytest.mark.parametrize("module", [Plain(), Normalized(), Normalized1()])
def test_a_module_with_or_without_batch_norm_is_accepted(module):
    check_backbone(module, SHAPE, devices=1)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (WithoutTrain(), r"WithoutTrain .* train; .*__call__\(self, images, train\)"),
        (FeatureMap(), r"feature map of shape \(2, 8, 8, 3\) .*x.mean\(axis=\(1, 2\)"),
        (Pair(), "Pair returns a tuple; return one array"),
        (OneRow(), r"\(1, 6\) for 2 images; return one row per image"),
        (FixedBatch(), r"FixedBatch fails on images of shape \(2, 8, 8, 1\) .* any n"),
        (WidthOfBatch(), "2 or 3 features, depending on the number of images"),
        (Dropout(), "Dropout needs random numbers .*dropout.*set its rate to 0"),
        (Counting(), "collection 'counts'; .* params and batch_stats"),
        (ChangesInEvaluation(), "batch_stats.*train=True only"),
        (NoParameters(), "no parameters to train"),
        (Half(), r"bfloat16; return float32"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_module_that_cannot_be_a_backbone_is_refused(module, message):
    with pytest.raises(UsageError, match=message):
        check_backbone(module, SHAPE, devices=1)


@pytest.mark.parametrize("value", [Plain, "resnet50"])
def test_an_object_that_is_no_module_is_refused(value):
    with pytest.raises(UsageError, match="flax.linen.Module; .*backbone=ConvNet"):
        describe_module(value)


def test_statistics_of_one_device_are_refused_with_several():
    check_backbone(Normalized(), SHAPE, devices=4)
    check_backbone(Plain(), SHAPE, devices=4)
    with pytest.raises(UsageError, match="Normalized1 .* 4 devices; .*axis_name"):
        check_backbone(Normalized1(), SHAPE, devices=4)


def test_the_axis_of_the_devices_is_set_where_the_module_has_a_field_for_it():
    assert own_backbone(Normalized(), "devices").axis_name == "devices"
    named = own_backbone(Plain(5, name="mine"), "devices")
    assert (named.width, named.name) == (5, None)


def test_a_description_has_the_fields_that_matter_and_no_addresses():
    class Wrapper(nn.Module):
        inner: nn.Module
        activation: object = nn.relu
        sizes: tuple = (1, 2)
        dtype: object = jnp.bfloat16
        layer: object = partial(nn.Dense, use_bias=False)

    assert describe_module(Plain(4)) == "Plain(width=4)"
    assert describe_module(Normalized("devices")) == "Normalized()"
    text = describe_module(Wrapper(Plain()))
    assert text.startswith("Wrapper(inner=Plain(width=3), activation=")
    assert "sizes=(1, 2)" in text and "bfloat16" in text and "use_bias" in text
    assert " at 0x" not in text
    assert text == describe_module(Wrapper(Plain()))
    assert text != describe_module(Wrapper(Plain(), activation=jax.nn.gelu))
