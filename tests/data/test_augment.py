"""Reference arrays: torchvision 0.29.1's tensor functions on two synthetic images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from isojax.data import augment

REFERENCE = dict(np.load(Path(__file__).parent / "torchvision_ops.npz"))
IMAGES = ("im32", "im64")


def image(name):
    return jnp.asarray(REFERENCE[name] / np.float32(255))


def settings(**changes):
    config = ConfigDict(digits.get_config().augment.to_dict())
    config.update(changes)
    return config


NO_CHANGE = dict(
    crop_scale=(1.0, 1.0),
    rotation=0.0,
    log_scale=0.0,
    log_aspect=0.0,
    shear=0.0,
    shift=0.0,
    brightness=0.0,
    contrast=0.0,
)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("factor", [0.75, 1.25])
@pytest.mark.parametrize("operation", ["brightness", "contrast"])
def test_factors_act_as_in_torchvision(name, factor, operation):
    function = getattr(augment, f"adjust_{operation}")
    expected = REFERENCE[f"{name}_{operation}_{factor}"]
    np.testing.assert_allclose(function(image(name), factor), expected, atol=1e-6)


@pytest.mark.parametrize("name", IMAGES)
def test_grayscale_is_torchvisions(name):
    grey = augment.rgb_to_grayscale(image(name))
    np.testing.assert_allclose(grey, REFERENCE[f"{name}_gray"], atol=1e-3)


@pytest.mark.parametrize("key", [key for key in REFERENCE if "_crop_" in key])
def test_resized_crop_is_torchvisions_bicubic_antialiased(key):
    name, _, *box = key.split("_")
    original = image(name)
    size = original.shape[0]
    crop = jax.jit(lambda *box: augment.resized_crop(original, *box, size=size))
    np.testing.assert_allclose(crop(*map(int, box)), REFERENCE[key], atol=4e-3)


def test_contrast_of_a_grey_image_blends_with_its_mean():
    grey = jnp.array([[0.2, 0.4], [0.6, 0.8]])[..., None]
    half = augment.adjust_contrast(grey, 0.5)
    np.testing.assert_allclose(half, 0.25 + 0.5 * grey, atol=1e-6)
    np.testing.assert_allclose(augment.adjust_contrast(grey, 0.0), 0.5, atol=1e-6)


def test_affine_by_the_identity_is_exact():
    original = image("im32")
    same = augment.affine(original, jnp.eye(2), jnp.zeros(2))
    np.testing.assert_array_equal(same, original)


def test_affine_by_a_quarter_turn_is_rot90():
    quarter = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = augment.affine(image("im32"), quarter, jnp.zeros(2))
    np.testing.assert_allclose(turned, jnp.rot90(image("im32")), atol=1e-5)


def test_affine_shifts_and_fills_with_zeros():
    shifted = augment.affine(image("im32"), jnp.eye(2), jnp.array([3.0, 0.0]))
    np.testing.assert_array_equal(shifted[:-3], image("im32")[3:])
    np.testing.assert_array_equal(shifted[-3:], 0)


def test_a_view_without_deviations_is_the_image():
    grey = image("im32")[..., :1]
    view = augment.affine_view(jax.random.key(0), grey, config=settings(**NO_CHANGE))
    np.testing.assert_allclose(view, grey, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"crop_scale": (0.3, 0.6)}, {"rotation": 20.0}, {"contrast": 0.3}]
)
def test_each_deviation_changes_the_view(changes):
    grey = image("im32")[..., :1]
    config = settings(**(NO_CHANGE | changes))
    view = augment.affine_view(jax.random.key(0), grey, config=config)
    assert jnp.abs(view - grey).mean() > 1e-2
    assert view.min() >= 0 and view.max() <= 1


def test_views_are_functions_of_the_key_and_batch_under_vmap():
    grey = image("im32")[..., :1]
    keys = jax.random.split(jax.random.key(1), 3)
    config = settings(crop_scale=(0.4, 1.0))
    view = jax.jit(lambda key: augment.affine_view(key, grey, config=config))
    together = jax.jit(jax.vmap(view))(keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(view(key), one, atol=1e-5)
    assert jnp.abs(together[0] - together[1]).mean() > 1e-2


def test_crop_boxes_have_the_area_ratio_and_position_asked_for():
    keys = jax.random.split(jax.random.key(0), 20_000)
    top, left, height, width = jax.vmap(
        lambda key: jnp.stack(
            augment.random_crop_box(key, 64, 64, scale=(0.1, 0.5), ratio=(0.5, 2.0))
        )
    )(keys).T
    assert (top >= 0).all() and (top + height <= 64).all()
    assert (left >= 0).all() and (left + width <= 64).all()
    area = height * width / 64**2
    log_ratio = jnp.log(width / height)
    # Rounding to pixels moves area and ratio a little beyond their limits.
    assert 0.095 < area.min() and area.max() < 0.51
    assert abs(area.mean() - 0.3) < 0.01
    assert abs(log_ratio.mean()) < 0.01
    uniform_deviation = 2 * np.log(2) / np.sqrt(12)
    assert abs(log_ratio.std() - uniform_deviation) < 0.02
    assert abs((top / (64 - height)).mean() - 0.5) < 0.01


def test_a_crop_that_cannot_fit_is_the_largest_central_one():
    box = augment.random_crop_box(
        jax.random.key(0), 40, 20, scale=(1.0, 1.0), ratio=(1.0, 1.0)
    )
    assert tuple(map(int, box)) == (10, 0, 20, 20)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    normalized = augment.normalize(
        jnp.ones((2, 2, 3)), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0)
    )
    np.testing.assert_allclose(normalized[0, 0], [1.0, 1.0, 0.0])
