"""SimCLR's views: what is drawn, and what is done with it."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.data import augment
from isojax.data.augment.crop import BOX_DRAWS, crop_box
from isojax.data.augment.simclr import blur_kernel_size, draw_parameters

DRAWS = 100_000
SIZE = 20
OPERATIONS = ("brightness", "contrast", "saturation", "hue")
ADJUST = {name: jax.jit(getattr(augment, f"adjust_{name}")) for name in OPERATIONS}
CROP = jax.jit(partial(augment.resized_crop, size=SIZE))
BLUR = jax.jit(partial(augment.gaussian_blur, kernel_size=blur_kernel_size(SIZE)))


def settings(**changes):
    return augment.SimclrSettings(
        **dict(
            crop_scale=(0.08, 1.0),
            crop_ratio=(3 / 4, 4 / 3),
            flip_probability=0.5,
            jitter_probability=0.8,
            brightness=1.6,
            contrast=0.4,
            saturation=0.8,
            hue=0.2,
            grayscale_probability=0.2,
            blur_probability=0.5,
            blur_sigma=(0.1, 2.0),
            solarize_probability=0.3,
        )
        | changes
    )


NOTHING = dict(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip_probability=0.0,
    jitter_probability=0.0,
    grayscale_probability=0.0,
    blur_probability=0.0,
    solarize_probability=0.0,
)


@pytest.fixture(scope="module")
def draws():
    keys = jax.random.split(jax.random.key(0), DRAWS)
    draw = jax.jit(lambda keys: draw_parameters(keys, size=32, config=settings()))
    return jax.tree.map(np.asarray, draw(keys))


def images(n):
    """Smooth random images."""
    values = np.random.default_rng(0).random((n, 5, 5, 3)).astype(np.float32)
    return jax.image.resize(values, (n, SIZE, SIZE, 3), "linear")


def assert_uniform(values, low, high):
    """Kolmogorov and Smirnov's distance, whose 0.1% quantile is 1.95 / √n."""
    ranks = (np.arange(len(values)) + 0.5) / len(values)
    distance = np.abs(ranks - (np.sort(values) - low) / (high - low)).max()
    assert distance < 1.95 / np.sqrt(len(values))


def operations_in_order(draws, i):
    names = [OPERATIONS[operation] for operation in draws.order[i]]
    return (*names[: draws.hue_place[i]], "hue", *names[draws.hue_place[i] :])


def torchvision_boxes(n, size, scale, ratio):
    """RandomResizedCrop.get_params of torchvision, for many images at once."""
    random = np.random.default_rng(1)
    area = size**2 * random.uniform(*scale, (n, 10))
    aspect = np.exp(random.uniform(*np.log(ratio), (n, 10)))
    width = np.round(np.sqrt(area * aspect)).astype(int)
    height = np.round(np.sqrt(area / aspect)).astype(int)
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    first = fits.argmax(axis=1)
    rows = np.arange(n)
    width = np.where(fits.any(axis=1), width[rows, first], size)
    height = np.where(fits.any(axis=1), height[rows, first], size)
    top, left = (random.integers(0, size - side + 1) for side in (height, width))
    return top, left, height, width


def test_boxes_are_distributed_as_torchvisions(draws):
    expected = torchvision_boxes(DRAWS, 32, (0.08, 1.0), (3 / 4, 4 / 3))
    quantities = (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: width / height,
        lambda top, left, height, width: top + 33 * height,
        lambda top, left, height, width: left + 33 * width,
    )
    for quantity in quantities:
        ours, theirs = np.sort(quantity(*draws.box)), np.sort(quantity(*expected))
        values = np.union1d(ours, theirs)
        distance = np.searchsorted(ours, values, side="right") - np.searchsorted(
            theirs, values, side="right"
        )
        assert np.abs(distance).max() / DRAWS < 1.95 * np.sqrt(2 / DRAWS)


@pytest.mark.parametrize(("height", "width"), [(40, 160), (160, 40)])
def test_boxes_of_an_oblong_image_have_the_chosen_part_of_its_area(height, width):
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = partial(augment.random_crop_box, scale=(0.1, 0.2), ratio=(0.9, 1.1))
    boxes = jax.jit(jax.vmap(lambda key: draw(key, height, width)))(keys)
    top, left, rows, columns = map(np.asarray, boxes)
    part = rows * columns / (height * width)
    assert 0.095 < part.min() < 0.11 and 0.19 < part.max() < 0.21  # whole pixels
    for start, extent, length in ((top, rows, height), (left, columns, width)):
        assert start.min() == 0 and (start + extent).max() == length


@pytest.mark.parametrize(
    ("shape", "ratio", "expected"),
    [
        ((40, 20), (1.0, 1.0), (10, 0, 20, 20)),
        ((20, 40), (1.0, 1.0), (0, 10, 20, 20)),
        ((20, 50), (1.0, 1.5), (0, 10, 20, 30)),
    ],
)
def test_a_crop_that_cannot_fit_is_the_largest_central_one(shape, ratio, expected):
    box = augment.random_crop_box(
        jax.random.key(0), *shape, scale=(1.0, 1.0), ratio=ratio
    )
    assert tuple(map(int, box)) == expected


def test_the_first_of_ten_boxes_that_fits_is_taken():
    areas, ratios = np.full(10, 0.999), np.full(10, 0.999)  # too wide
    areas[9], ratios[9] = 0.0, 0.5  # half of the area, a square
    uniform = jnp.asarray([*areas, *ratios, 0.0, 0.999], jnp.float32)
    box = crop_box(uniform, 40, 40, scale=(0.5, 1.0), ratio=(0.5, 2.0))
    assert tuple(map(int, box)) == (0, 12, 28, 28)


@pytest.mark.parametrize("shape", [(375, 500), (32, 32), (3, 200), (1, 1)])
def test_the_host_computes_the_boxes_of_the_device(shape):
    uniform = np.random.default_rng(0).random((1000, BOX_DRAWS), dtype=np.float32)
    compute = partial(crop_box, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    on_host = compute(uniform, *shape)
    on_device = compute(jnp.asarray(uniform), *shape)
    for host, device in zip(on_host, on_device, strict=True):
        assert isinstance(host, np.ndarray)
        np.testing.assert_array_equal(host, device)


def test_a_box_without_pixels_does_not_fit():
    areas, ratios = np.full(10, 0.999), np.full(10, 0.5)  # squares
    areas[0] = 0.0  # a side of 0.4 pixels
    uniform = jnp.asarray([*areas, *ratios, 0.0, 0.0], jnp.float32)
    box = crop_box(uniform, 40, 40, scale=(1e-4, 0.25), ratio=(0.5, 2.0))
    assert tuple(map(int, box)) == (0, 0, 20, 20)


def test_rows_and_columns_of_a_crop_are_placed_independently(draws):
    height, width = draws.box[2:]
    is_free = (height < 24) & (width < 24)
    top, left, height, width = (side[is_free] for side in draws.box)
    assert len(top) > 10_000
    correlation = np.corrcoef(top / (32 - height), left / (32 - width))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(len(top))


def test_events_have_their_probabilities_and_are_independent(draws):
    is_jittered = draws.hue != 0
    events = {
        "flip": (draws.is_flipped, 0.5),
        "jitter": (is_jittered, 0.8),
        "grayscale": (draws.is_grey, 0.2),
        "blur": (draws.sigma > 0, 0.5),
        "solarize": (draws.is_solarized, 0.3),
    }
    for is_drawn, probability in events.values():
        deviation = np.sqrt(probability * (1 - probability) / DRAWS)
        assert abs(is_drawn.mean() - probability) < 4 * deviation
    correlations = np.corrcoef([is_drawn for is_drawn, _ in events.values()])
    assert np.abs(correlations - np.eye(len(events))).max() < 4 / np.sqrt(DRAWS)


def test_jitter_is_uniform_where_drawn_and_idle_elsewhere(draws):
    is_jittered = draws.hue != 0
    np.testing.assert_array_equal(draws.factors[~is_jittered], 1.0)
    brightness, contrast, saturation = draws.factors[is_jittered].T
    assert_uniform(brightness, 0.0, 2.6)  # no negative factors
    assert_uniform(contrast, 0.6, 1.4)
    assert_uniform(saturation, 0.2, 1.8)
    assert_uniform(draws.hue[is_jittered], -0.2, 0.2)
    assert_uniform(draws.sigma[draws.sigma > 0], 0.1, 2.0)


def test_all_orders_of_jitter_are_equally_likely(draws):
    orders = 1000 * draws.order @ [1, 10, 100] + draws.hue_place
    _, counts = np.unique(orders, return_counts=True)
    assert len(counts) == 24
    expected = DRAWS / 24
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 49.7  # 0.1% quantile with 23 degrees of freedom
    assert {operations_in_order(draws, i) for i in range(1_000)} == set(
        itertools.permutations(OPERATIONS)
    )


def reference_view(image, draws, i):
    """The view composed of the public functions, one after the other."""
    view = CROP(image, *(side[i] for side in draws.box))
    view = view[:, ::-1] if draws.is_flipped[i] else view
    amounts = dict(zip(OPERATIONS, (*draws.factors[i], draws.hue[i]), strict=True))
    for name in operations_in_order(draws, i):
        view = ADJUST[name](view, amounts[name])
    if draws.is_grey[i]:
        view = augment.rgb_to_grayscale(view)
    if draws.sigma[i] > 0:
        view = BLUR(view, draws.sigma[i])
    return augment.solarize(view) if draws.is_solarized[i] else view


@pytest.mark.parametrize(
    "changes", [{}, {"hue": 0.0, "contrast": 0.0}, {"brightness": 0.0, "contrast": 0.0}]
)
def test_views_are_the_public_operations_in_turn(changes):
    config = settings(**changes)
    keys, originals = jax.random.split(jax.random.key(3), 32), images(32)
    views = jax.jit(partial(augment.simclr_views, config=config))
    together = views(keys, originals)
    draw = jax.jit(partial(draw_parameters, size=SIZE, config=config))
    draws = jax.tree.map(np.asarray, draw(keys))
    for i in range(len(keys)):
        expected = reference_view(originals[i], draws, i)
        # A pixel may fall on either side of the threshold of solarisation.
        is_off = np.abs(together[i] - expected) > 1e-5
        assert is_off.mean() < 1e-3, operations_in_order(draws, i)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda x: x),
        ({"flip_probability": 1.0}, lambda x: x[:, ::-1]),
        ({"grayscale_probability": 1.0}, augment.rgb_to_grayscale),
        ({"solarize_probability": 1.0}, augment.solarize),
        (
            {"blur_probability": 1.0, "blur_sigma": (0.7, 0.7)},
            lambda x: BLUR(x, jnp.float32(0.7)),
        ),
    ],
)
def test_each_operation_alone(changes, expected):
    original = images(1)[0]
    view = jax.jit(
        partial(augment.simclr_view, config=settings(**(NOTHING | changes)))
    )(jax.random.key(0), original)
    np.testing.assert_allclose(view, expected(original), atol=1e-5)


def test_disabled_operations_are_not_computed():
    def size_of_program(**changes):
        config = settings(**(NOTHING | changes))
        view = jax.jit(lambda *args: augment.simclr_view(*args, config=config))
        return len(view.lower(jax.random.key(0), images(1)[0]).as_text())

    least = size_of_program()
    for name in ("jitter", "grayscale", "blur", "solarize"):
        assert size_of_program(**{f"{name}_probability": 0.5}) > least


@pytest.mark.parametrize(
    ("size", "side"), [(8, 3), (32, 3), (64, 7), (96, 9), (224, 23)]
)
def test_the_kernel_of_the_blur_is_a_tenth_of_the_side_and_odd(size, side):
    assert blur_kernel_size(size) == side


def test_a_grey_image_has_the_views_of_its_three_equal_channels():
    n = 50
    grey = images(n)[..., :1]
    keys = jax.random.split(jax.random.key(5), n)
    views = partial(jax.jit(augment.simclr_views, static_argnames="config"), keys)
    colour = views(jnp.repeat(grey, 3, axis=-1), config=settings())
    assert jnp.ptp(colour, axis=-1).max() < 1e-6
    found = views(grey, config=settings())
    # The weights of the luma sum to 0.9999.
    np.testing.assert_allclose(found, colour[..., :1], atol=3e-4)
    assert jnp.abs(found - grey).max() > 0.1


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 9, 3), (8, 8, 4), (8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="1 or 3 channels"):
        augment.simclr_view(jax.random.key(0), jnp.zeros(shape), config=settings())
