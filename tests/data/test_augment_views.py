"""Batches of normalised views, of both kinds and in the training step."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.configs import digits
from isojax.data import augment
from isojax.data.augment import views as views_module
from isojax.errors import UsageError
from isojax.training.settings import ViewPair, view_settings
from isojax.training.step import make_views

SIMCLR = augment.ViewSettings(
    "simclr",
    augment.SimclrSettings(
        crop_scale=(0.08, 1.0),
        crop_ratio=(3 / 4, 4 / 3),
        flip_probability=0.5,
        jitter_probability=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        grayscale_probability=0.2,
        blur_probability=0.5,
        blur_sigma=(0.1, 2.0),
        solarize_probability=0.0,
    ),
)
AFFINE = view_settings(digits.get_config().augment)
MEAN, STD = (0.1, 0.4, 0.7), (0.2, 0.3, 0.5)
# So many that the batch is worked on in parts.
IMAGES = np.random.default_rng(0).integers(0, 256, (54, 40, 40, 3), dtype=np.uint8)
KEYS = jax.random.split(jax.random.key(5), len(IMAGES))


@lru_cache
def compiled_views(views, dtype=jnp.float32):
    return jax.jit(
        partial(augment.random_views, views=views, mean=MEAN, std=STD, dtype=dtype)
    )


def simclr_pair(**view2):
    second = SIMCLR._replace(config=SIMCLR.config._replace(**view2))
    return ViewPair(SIMCLR, second, MEAN, STD)


@pytest.mark.parametrize("settings", [SIMCLR, AFFINE], ids=lambda views: views.kind)
def test_views_are_those_of_each_image_alone_normalised(settings):
    views = compiled_views(settings)(KEYS, IMAGES)
    assert views.shape == IMAGES.shape and views.dtype == jnp.float32
    function = getattr(augment, f"{settings.kind}_view")
    view = jax.jit(lambda key, image: function(key, image, config=settings.config))
    for i in (0, 7, 53):
        one = view(KEYS[i], IMAGES[i] / np.float32(255))
        expected = augment.normalize(one, mean=MEAN, std=STD)
        # Like elsewhere 1e-5 of a pixel's range, before it is divided by STD.
        np.testing.assert_allclose(
            np.asarray(views[i]) * STD, np.asarray(expected) * STD, atol=1e-5
        )


@pytest.mark.parametrize("n", [1, 7, 50, 54])
def test_parts_of_a_batch_fit_in_a_cache_and_keep_their_order(n):
    sizes = []

    def make(keys, images):
        sizes.append(images.size)
        return images + keys[:, None, None, None]

    keys = jnp.arange(float(n))
    images = jnp.asarray(IMAGES[:n], jnp.float32)
    made = views_module._in_chunks(make, keys, images)
    np.testing.assert_array_equal(made, images + keys[:, None, None, None])
    assert max(sizes) <= 2**17


def test_views_do_not_depend_on_their_place():
    views = compiled_views(SIMCLR)(KEYS, IMAGES)
    order = np.random.default_rng(1).permutation(len(IMAGES))
    shuffled = compiled_views(SIMCLR)(KEYS[order], IMAGES[order])
    np.testing.assert_allclose(shuffled, views[order], atol=1e-5)


def test_views_in_bfloat16_are_the_rounded_ones():
    views = compiled_views(SIMCLR)(KEYS, IMAGES)
    rounded = compiled_views(SIMCLR, dtype=jnp.bfloat16)(KEYS, IMAGES)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), views, rtol=4e-3, atol=1e-6)


def test_accelerators_work_on_the_whole_batch_at_once():
    traced = compiled_views(SIMCLR).trace(KEYS, IMAGES)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert f"{len(IMAGES)}x3x40x40" in program and "stablehlo.while" not in program
    assert "optimization_barrier" in program and "inlineable" not in program


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(UsageError, match="kind=simclar: .*simclr, affine"):
        compiled_views(augment.ViewSettings("simclar", None))(KEYS, IMAGES)


def test_the_second_view_is_drawn_apart_and_may_differ_in_some_fields():
    batch = {"images": IMAGES[:4], "indices": np.arange(4)}
    key = jax.random.key(0)
    first, same = jax.jit(partial(make_views, views=simclr_pair()))(key, batch)
    assert jnp.abs(first - same).mean() > 0.1
    pair = simclr_pair(solarize_probability=1.0)
    unchanged, second = jax.jit(partial(make_views, views=pair))(key, batch)
    np.testing.assert_allclose(unchanged, first, atol=1e-5)
    before, after = np.asarray(same) * STD + MEAN, np.asarray(second) * STD + MEAN
    is_close = np.abs(before - 0.5) < 1e-5  # rounding decides
    expected = np.where(before >= 0.5, 1 - before, before)
    np.testing.assert_allclose(after[~is_close], expected[~is_close], atol=1e-5)
