"""Affine maps of drawings and their random views."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.configs import digits
from isojax.data import augment
from isojax.training.settings import view_settings

IMAGE = jnp.asarray(np.random.default_rng(0).random((32, 32, 3)), jnp.float32)
GREY = IMAGE[..., :1]


def settings(**changes):
    return view_settings(digits.get_config().augment).config._replace(**changes)


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


def test_affine_turns_about_the_centre_of_an_oblong_image():
    image = IMAGE[:20]
    turned = augment.affine(image, -jnp.eye(2), jnp.zeros(2))
    np.testing.assert_allclose(turned, image[::-1, ::-1], atol=1e-5)


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


N = 2_000
SIDE = 17


@partial(jax.jit, static_argnames=("brightness", "contrast"))
def _many_views(image, geometry, *, brightness=0.0, contrast=0.0):
    changes = NO_CHANGE | geometry | dict(brightness=brightness, contrast=contrast)
    config = settings(**changes)
    view = jax.vmap(lambda key: augment.affine_view(key, image, config=config))
    return view(jax.random.split(jax.random.key(2), N))


def many_views(channels, *, brightness=0.0, contrast=0.0, **geometry):
    """N views (N, h, w, c) of one image (c, h, w)."""
    image = jnp.asarray(channels, jnp.float32).transpose(1, 2, 0)
    names = ("rotation", "log_scale", "log_aspect", "shear", "shift")
    geometry = {name: geometry.get(name, 0.0) for name in names}  # traced
    views = _many_views(image, geometry, brightness=brightness, contrast=contrast)
    return np.asarray(views, np.float64)


def sources(**deviations):
    """The maps of N views, from pixels to their sources, measured from the centre.

    The image holds its own coordinates, so that a view shows where its pixels are from;
    bilinear sampling of a linear function is exact.

    Returns:
      Matrices (N, 2, 2) and shifts (N, 2).
    """
    half = SIDE // 2
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    views = many_views([rows, columns], **deviations)
    near = slice(half - 2, half + 3)  # never sampled from outside the image
    places = np.mgrid[-2:3, -2:3].reshape(2, -1).T
    design = np.hstack([places, np.ones((len(places), 1))])
    seen = views[:, near, near].reshape(N, -1, 2) * (SIDE - 1) - half
    found = np.linalg.pinv(design) @ seen
    np.testing.assert_allclose(design @ found, seen, atol=1e-4)  # a linear map
    return found[:, :2].transpose(0, 2, 1), found[:, 2]


def assert_uniform(values, largest):
    """Kolmogorov and Smirnov's distance, whose 0.1% quantile is 1.95 / √n."""
    values = np.sort(values)
    assert np.abs(values).max() <= largest * (1 + 1e-4)
    ranks = (np.arange(N) + 0.5) / N
    distance = np.abs(ranks - (values + largest) / (2 * largest)).max()
    assert distance < 1.95 / np.sqrt(N)


def test_views_are_rotated_by_uniform_angles():
    matrix, shift = sources(rotation=20.0)
    angle = np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    c, s = np.cos(angle), np.sin(angle)
    expected = np.array([[c, -s], [s, c]]).transpose(2, 0, 1)
    np.testing.assert_allclose(matrix, expected, atol=1e-4)
    np.testing.assert_allclose(shift, 0, atol=1e-4)
    assert_uniform(np.rad2deg(angle), 20.0)


def test_views_are_scaled_by_factors_of_uniform_logarithm():
    matrix, _ = sources(log_scale=0.3)
    np.testing.assert_allclose(matrix, matrix[:, :1, :1] * np.eye(2), atol=1e-4)
    assert_uniform(-np.log(matrix[:, 0, 0]), 0.3)


def test_views_are_stretched_at_constant_area():
    matrix, _ = sources(log_aspect=0.4)
    np.testing.assert_allclose(matrix[:, [0, 1], [1, 0]], 0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-4)
    assert_uniform(np.log(matrix[:, 0, 0] / matrix[:, 1, 1]), 0.4)


def test_views_are_sheared():
    matrix, _ = sources(shear=0.5)
    sheared = matrix[:, 1, 0].copy()
    matrix[:, 1, 0] = 0
    np.testing.assert_allclose(matrix, np.broadcast_to(np.eye(2), (N, 2, 2)), atol=1e-4)
    assert_uniform(sheared, 0.5)


def test_views_are_shifted_by_a_part_of_the_side():
    matrix, shift = sources(shift=0.1)
    np.testing.assert_allclose(matrix, np.broadcast_to(np.eye(2), (N, 2, 2)), atol=1e-4)
    assert_uniform(shift[:, 0], 0.1 * SIDE)
    assert_uniform(shift[:, 1], 0.1 * SIDE)


def test_the_deviations_of_a_view_are_independent():
    deviations = dict(
        rotation=10.0, log_scale=0.1, log_aspect=0.2, shear=0.2, shift=0.1
    )
    matrix, shift = sources(**deviations)
    # rotation @ diag(a, b) @ [[1, 0], [shear, 1]]: the second column is b (-sin, cos).
    angle = np.arctan2(-matrix[:, 0, 1], matrix[:, 1, 1])
    b = np.linalg.norm(matrix[:, :, 1], axis=1)
    a = np.linalg.det(matrix) / b
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    shear = (matrix[:, :, 0] * across).sum(axis=1) / b
    drawn = [angle, np.log(a * b), np.log(a / b), shear, *shift.T]
    largest = [np.deg2rad(10.0), 0.2, 0.2, 0.2, 0.1 * SIDE, 0.1 * SIDE]
    for values, most in zip(drawn, largest, strict=True):
        assert_uniform(values, most)
    correlations = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlations).max() < 4 / np.sqrt(N)


@pytest.mark.parametrize(("brightness", "contrast"), [(0.3, 0.6), (0.2, 1.5)])
def test_brightness_and_contrast_are_drawn_uniformly_and_apart(brightness, contrast):
    image = np.full((1, SIDE, SIDE), 0.1)
    image[:, 1::2] = 0.12  # so dark that nothing is clipped
    views = many_views(image, brightness=brightness, contrast=contrast)
    ratio = views.mean(axis=(1, 2, 3)) / image.mean()
    gap = (views[:, 1, 0, 0] - views[:, 0, 0, 0]) / (0.12 - 0.1) / ratio
    assert_uniform(ratio - 1, brightness)
    low, high = max(0.0, 1 - contrast), 1 + contrast  # never an inverted contrast
    assert_uniform(gap - (low + high) / 2, (high - low) / 2)
    assert abs(np.corrcoef(ratio, gap)[0, 1]) < 4 / np.sqrt(N)


def test_brightness_is_clipped_before_contrast():
    image = np.zeros((1, SIDE, SIDE))
    image[:, 1::2] = 1.0
    views = many_views(image, brightness=0.9, contrast=0.9)
    dark, bright = views[:, 0, 0, 0], views[:, 1, 0, 0]
    # Contrast moves both towards their mean, by as much of their distance from it.
    brightened = bright + dark * (1 / image.mean() - 1)
    assert brightened.max() < 1 + 1e-4
    assert (brightened > 1 - 1e-4).sum() > 100


def test_a_view_s_crop_is_a_random_resized_one():
    scale, ratio = (0.3, 0.6), (0.9, 1.2)
    config = settings(**(NO_CHANGE | dict(crop_scale=scale, crop_ratio=ratio)))

    @jax.jit
    def both(key):
        crop_key = jax.random.split(key, 5)[0]
        box = augment.random_crop_box(crop_key, 32, 32, scale=scale, ratio=ratio)
        return (
            augment.affine_view(key, GREY, config=config),
            augment.resized_crop(GREY, *box, size=32),
        )

    view, expected = both(jax.random.key(7))
    np.testing.assert_allclose(view, expected, atol=1e-5)


def test_views_are_functions_of_the_key_and_batch_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    config = settings(crop_scale=(0.4, 1.0))
    view = jax.jit(lambda key: augment.affine_view(key, GREY, config=config))
    together = jax.jit(jax.vmap(view))(keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(view(key), one, atol=1e-5)
    assert jnp.abs(together[0] - together[1]).mean() > 1e-2


def test_products_of_coordinates_have_full_precision_on_accelerators():
    view = partial(augment.affine_view, config=settings())
    traced = jax.jit(view).trace(jax.random.key(0), GREY)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
