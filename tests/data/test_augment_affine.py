"""Affine maps of drawings and their random views."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from isojax.data import augment

IMAGE = jnp.asarray(np.random.default_rng(0).random((32, 32, 3)), jnp.float32)
GREY = IMAGE[..., :1]


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


def test_affine_by_the_identity_is_exact():
    same = augment.affine(IMAGE, jnp.eye(2), jnp.zeros(2))
    np.testing.assert_array_equal(same, IMAGE)


def test_affine_by_a_quarter_turn_is_rot90():
    quarter = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = augment.affine(IMAGE, quarter, jnp.zeros(2))
    np.testing.assert_allclose(turned, jnp.rot90(IMAGE), atol=1e-5)


def test_affine_shifts_and_fills_with_zeros():
    shifted = augment.affine(IMAGE, jnp.eye(2), jnp.array([3.0, 0.0]))
    np.testing.assert_array_equal(shifted[:-3], IMAGE[3:])
    np.testing.assert_array_equal(shifted[-3:], 0)


def test_a_view_without_deviations_is_the_image():
    view = augment.affine_view(jax.random.key(0), GREY, config=settings(**NO_CHANGE))
    np.testing.assert_allclose(view, GREY, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"crop_scale": (0.3, 0.6)}, {"rotation": 20.0}, {"contrast": 0.3}]
)
def test_each_deviation_changes_the_view(changes):
    config = settings(**(NO_CHANGE | changes))
    view = jax.jit(partial(augment.affine_view, config=config))(jax.random.key(0), GREY)
    assert jnp.abs(view - GREY).mean() > 1e-2
    assert view.min() >= 0 and view.max() <= 1


def test_views_are_functions_of_the_key_and_batch_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    config = settings(crop_scale=(0.4, 1.0))
    view = jax.jit(lambda key: augment.affine_view(key, GREY, config=config))
    together = jax.jit(jax.vmap(view))(keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(view(key), one, atol=1e-5)
    assert jnp.abs(together[0] - together[1]).mean() > 1e-2
