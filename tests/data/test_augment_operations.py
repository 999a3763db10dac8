"""Reference arrays: torchvision 0.29.1's tensor functions on two synthetic images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.data import augment

REFERENCE = dict(np.load(Path(__file__).parent / "torchvision_ops.npz"))
OPERATIONS = {
    "brightness": augment.adjust_brightness,
    "contrast": augment.adjust_contrast,
    "saturation": augment.adjust_saturation,
    "hue": augment.adjust_hue,
    "gray": augment.rgb_to_grayscale,
    "solarize": augment.solarize,
    "blur": lambda x, sigma: augment.gaussian_blur(x, sigma, kernel_size=9),
    "crop": lambda x, *box: augment.resized_crop(x, *box, size=len(x)),
}
COMPILED = {name: jax.jit(function) for name, function in OPERATIONS.items()}
CASES = [key for key in REFERENCE if "_" in key]


def image(name):
    return jnp.asarray(REFERENCE[name] / np.float32(255))


def grid(values):
    """All colours whose channels are among `values`, as one image."""
    colours = np.stack(np.meshgrid(*[values] * 3), axis=-1).reshape(-1, 1, 3)
    return jnp.asarray(colours, jnp.float32)


@pytest.mark.parametrize("key", CASES)
def test_operations_are_torchvisions(key):
    name, operation, *arguments = key.split("_")
    kind = int if operation == "crop" else float
    result = COMPILED[operation](image(name), *map(kind, arguments))
    np.testing.assert_allclose(result, REFERENCE[key], atol=2e-6)


def test_contrast_of_a_grey_image_blends_with_its_mean():
    grey = jnp.array([[0.2, 0.4], [0.6, 0.8]])[..., None]
    half = augment.adjust_contrast(grey, 0.5)
    np.testing.assert_allclose(half, 0.25 + 0.5 * grey, atol=1e-6)
    np.testing.assert_allclose(augment.adjust_contrast(grey, 0.0), 0.5, atol=1e-6)


def test_solarize_inverts_values_that_reach_the_threshold():
    values = jnp.array([0.0, 0.25, 0.3, 1.0])
    solarized = augment.solarize(values, threshold=0.25)
    np.testing.assert_allclose(solarized, [0.0, 0.75, 0.7, 0.0], atol=1e-6)


def test_factor_one_and_hue_zero_change_nothing():
    colours = grid([0.0, 0.2, 0.5, 1.0])
    for name in ("brightness", "contrast", "saturation"):
        np.testing.assert_array_equal(OPERATIONS[name](colours, 1.0), colours)
    np.testing.assert_allclose(augment.adjust_hue(colours, 0.0), colours, atol=1e-6)


@pytest.mark.parametrize("delta", [-0.5, -0.2, 1 / 3, 0.5])
def test_turned_hues_turn_back_and_keep_their_extremes(delta):
    colours = grid([0.0, 0.1, 0.4, 0.7, 1.0])
    turned = augment.adjust_hue(colours, delta)
    np.testing.assert_allclose(turned.max(-1), colours.max(-1), atol=1e-6)
    np.testing.assert_allclose(turned.min(-1), colours.min(-1), atol=1e-6)
    np.testing.assert_allclose(augment.adjust_hue(turned, -delta), colours, atol=1e-5)


def test_a_third_of_a_turn_moves_each_channel_to_the_next():
    colours = grid([0.0, 0.1, 0.4, 0.7, 1.0])
    turned = augment.adjust_hue(colours, 1 / 3)
    np.testing.assert_allclose(turned, jnp.roll(colours, 1, axis=-1), atol=1e-5)


def test_shrinking_averages_and_takes_nothing_from_outside_the_box():
    flat = jnp.full((24, 18, 3), 0.3).at[:, 12:].set(1.0)
    shrink = jax.jit(augment.resized_crop, static_argnames="size")
    small = shrink(flat, 0, 0, 24, 12, size=5)
    np.testing.assert_allclose(small, 0.3, atol=1e-6)
    stripes = jnp.tile(jnp.array([0.0, 1.0])[:, None, None], (16, 32, 3))
    gray = shrink(stripes, 0, 0, 32, 32, size=8)
    np.testing.assert_allclose(gray, 0.5, atol=0.05)


def test_the_whole_image_at_its_size_is_itself():
    original = image("im32")
    same = augment.resized_crop(original, 0, 0, 32, 32, size=32)
    np.testing.assert_allclose(same, original, atol=1e-6)


def test_blur_keeps_flat_images_and_spreads_points():
    flat = jnp.full((12, 9, 3), 0.4)
    blurred = augment.gaussian_blur(flat, 1.3, kernel_size=5)
    np.testing.assert_allclose(blurred, 0.4, atol=1e-6)
    point = jnp.zeros((9, 11, 3)).at[4, 5].set(1.0)
    spread = augment.gaussian_blur(point, 1.0, kernel_size=3)
    weights = np.exp([-0.5, 0.0, -0.5])
    weights /= weights.sum()
    expected = np.outer(weights, weights)
    np.testing.assert_allclose(spread[3:6, 4:7, 0], expected, atol=1e-6)
    np.testing.assert_allclose(spread.sum((0, 1)), 1.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 14, 3), (14, 9, 3)])
def test_blur_reflects_an_oblong_image_at_its_border(shape):
    original = np.random.default_rng(0).random(shape)
    weights = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    weights /= weights.sum()
    padded = np.pad(original, [(3, 3), (3, 3), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(0, 1))
    expected = np.einsum("hwcij,i,j->hwc", windows, weights, weights)
    blurred = augment.gaussian_blur(
        jnp.asarray(original, jnp.float32), 1.5, kernel_size=7
    )
    np.testing.assert_allclose(blurred, expected, atol=1e-6)


def test_blur_with_a_traced_sigma_of_zero_changes_nothing():
    blur = jax.jit(
        lambda sigma: augment.gaussian_blur(image("im32"), sigma, kernel_size=3)
    )
    np.testing.assert_array_equal(blur(0.0), image("im32"))


@pytest.mark.parametrize("kernel_size", [4, 17])
def test_a_kernel_that_does_not_fit_is_refused(kernel_size):
    with pytest.raises(ValueError, match="kernel_size"):
        augment.gaussian_blur(jnp.zeros((8, 20, 3)), 1.0, kernel_size=kernel_size)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    normalized = augment.normalize(
        jnp.ones((2, 2, 3)), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0)
    )
    np.testing.assert_allclose(normalized[0, 0], [1.0, 1.0, 0.0])
