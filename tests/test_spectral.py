import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from isojax import spectral
from isojax.predictor import direct_predictor

ONE_ARRAY = [
    spectral.participation_ratio,
    spectral.normalized_eigenvalue_sum,
    spectral.effective_rank,
    spectral.normalized_std,
]
# Compiled once for each shape; that eager calls agree has its own tests.
participation_ratio = jax.jit(spectral.participation_ratio)
effective_rank = jax.jit(spectral.effective_rank)
spectrum_exponent = jax.jit(spectral.spectrum_exponent)
normalized_eigenvalue_sum = jax.jit(spectral.normalized_eigenvalue_sum)
lidar = jax.jit(spectral.lidar)
normalized_std = jax.jit(spectral.normalized_std)
cosine_similarity = jax.jit(spectral.cosine_similarity)
eigenvector_alignment = jax.jit(spectral.eigenvector_alignment)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def orthogonal(dim):
    return np.linalg.qr(normal(dim, dim))[0]


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [
        ([2.0, 2.0, 2.0, 2.0], 4),
        ([0.0, 0.0, 5.0], 1),
        ([1.0, 2.0, 3.0], 36 / 14),
        ([0.0, 0.0], 0),
        ([1e30, 1e30, 0.0], 2),
        ([1e-30, 1e-30, 0.0], 2),
    ],
)
def test_participation_ratio_equals_value_computed_by_hand(eigenvalues, expected):
    ratio = participation_ratio(jnp.array(eigenvalues))
    np.testing.assert_allclose(ratio, expected, rtol=1e-6)


def test_participation_ratio_is_per_spectrum():
    ratios = participation_ratio(jnp.array([[1.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(ratios, [2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("singular_values", "expected"),
    [
        ([3.0, 3.0, 3.0], 3),
        ([0.0, 0.0, 7.0], 1),
        # Probabilities 1/2, 1/4, 1/4: an entropy of 1.5 log 2.
        ([1.0, 1.0, 2.0], 2**1.5),
        ([0.0, 0.0, 0.0], 0),
    ],
)
def test_effective_rank_equals_value_computed_by_hand(singular_values, expected, x64):
    representations = orthogonal(5)[:, :3] * np.array(singular_values) @ orthogonal(3)
    # RankMe's epsilon of 1e-7 moves a zero singular value's share by 1.6e-6.
    np.testing.assert_allclose(effective_rank(representations), expected, rtol=1e-5)


def test_effective_rank_has_the_epsilon_of_its_source(x64):
    p = np.array([1.0, 0.0, 0.0]) + 1e-7
    np.testing.assert_allclose(
        effective_rank(np.diag([2.0, 0.0, 0.0])),
        np.exp(-np.sum(p * np.log(p))),
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [
        ([2.0, 2.0, 2.0], 0),
        ([1 / 9, 1.0, 1 / 4], 2),
        # Falls by three octaves over one octave of ranks; zeros are left out.
        ([0.0, 1.0, 8.0, 0.0], 3),
        # Weights 6/11, 3/11, 2/11; log k has the mean 0.38879 and the variance 0.19932,
        # and the covariance -6/11 * 0.38879 * log 4 = -0.29399 with log s.
        ([4.0, 1.0, 1.0], 0.29399 / 0.19932),
        ([1.0, 0.0], np.nan),
        ([0.0, 0.0], np.nan),
    ],
)
def test_spectrum_exponent_equals_value_computed_by_hand(eigenvalues, expected):
    exponent = spectrum_exponent(jnp.array(eigenvalues))
    np.testing.assert_allclose(exponent, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [([2.0, 2.0, 2.0], 3), ([0.0, 4.0, 1.0], 1.25), ([0.0, 0.0], 0)],
)
def test_normalized_eigenvalue_sum_equals_value_computed_by_hand(eigenvalues, expected):
    assert normalized_eigenvalue_sum(jnp.array(eigenvalues)) == expected


def test_lidar_equals_value_computed_by_hand(x64):
    """B = 4 in both directions and W = diag(1, 4): the eigenvalues are 4 and 1."""
    means = np.sqrt(8) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    deviations = np.sqrt(2) * np.array([[1, 0], [1, 0], [0, 2], [0, 2]])
    views = np.stack([means + deviations, means - deviations], axis=1) + 3.0
    expected = np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2))
    rotation = orthogonal(2)
    for each in (views, views @ rotation):
        # 1e-4 is added to the variances within images.
        np.testing.assert_allclose(lidar(each), expected, rtol=1e-4)
    assert lidar(np.ones((4, 2, 3))) == 0


def test_lidar_leaves_out_directions_that_distinguish_no_images(x64):
    """Unlike in RankMe, where they count as much as others of the same variance."""
    rng = np.random.default_rng(0)
    images, views = rng.normal(size=(2_000, 1, 3)), rng.normal(size=(2_000, 50, 3))
    z = np.concatenate([np.tile(10 * images, (1, 50, 1)) + views, 10 * views], axis=2)
    assert lidar(z) == pytest.approx(3, abs=0.05)
    assert effective_rank(z[:, 0]) == pytest.approx(6, abs=0.05)


def test_normalized_std_equals_value_computed_by_hand():
    # Directions (1, 0), (0, 1), (-1, 0), (0, -1): variance 1/2 in both dimensions.
    rows = jnp.array([[3.0, 0.0], [0.0, 0.1], [-2.0, 0.0], [0.0, -7.0]])
    np.testing.assert_allclose(normalized_std(rows), 0.5**0.5, rtol=1e-6)


@pytest.mark.parametrize("dim", [4, 32])
def test_normalized_std_is_one_over_root_dim_when_healthy_and_0_when_collapsed(
    dim, x64
):
    healthy = normalized_std(normal(20_000, dim))
    np.testing.assert_allclose(healthy, dim**-0.5, rtol=1e-3)
    parallel = np.outer(np.linspace(0.5, 2.0, 64), np.arange(1.0, dim + 1))
    np.testing.assert_allclose(normalized_std(parallel), 0, atol=1e-15)
    assert normalized_std(np.zeros((64, dim))) == 0


def test_normalized_std_over_devices_is_that_of_the_global_batch(x64):
    rows = normal(12, 3) + 1
    std = functools.partial(spectral.normalized_std, axis_name="devices")
    shards = jax.jit(jax.vmap(std, axis_name="devices"))(rows.reshape(4, 3, 3))
    expected = np.full(4, normalized_std(rows))
    np.testing.assert_allclose(shards, expected, rtol=1e-14)


def test_cosine_similarity_equals_values_computed_by_hand_and_optax(x64):
    x = jnp.array([[3.0, 4.0], [1.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    y = jnp.array([[4.0, 3.0], [0.0, 5.0], [-1.0, -1.0], [1.0, 2.0]])
    similarity = cosine_similarity(x, y)
    np.testing.assert_allclose(similarity, [24 / 25, 0, -1, 0], atol=1e-15)
    np.testing.assert_allclose(
        similarity[:3], optax.cosine_similarity(x, y)[:3], atol=1e-15
    )


def test_alignment_is_one_for_the_closed_form_predictor_and_its_negative(x64):
    c = normal(20, 4)
    c = c.T @ c
    matrix = direct_predictor(c).matrix
    for aligned in (matrix, -matrix):
        np.testing.assert_allclose(
            eigenvector_alignment(aligned, c), np.ones(4), rtol=1e-13
        )


def test_alignment_equals_value_computed_by_hand():
    # C's eigenvectors are e1, e2, e3; W e1 = (3, 4, 0), W e2 = 0, W e3 = e1.
    matrix = jnp.array([[3.0, 0.0, 1.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    alignment = eigenvector_alignment(matrix, jnp.diag(jnp.arange(1.0, 4.0)))
    np.testing.assert_allclose(alignment, [0.6, 0, 0], atol=1e-6)


@pytest.mark.parametrize("function", ONE_ARRAY, ids=lambda f: f.__name__)
def test_jit_and_vmap_equal_eager_and_bfloat16_is_widened(function):
    x = np.abs(normal(2, 6, 4))
    eager = [function(rows) for rows in x]
    jitted = jax.jit(function)
    np.testing.assert_allclose([jitted(rows) for rows in x], eager, 1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(x), eager, 1e-5)
    low = jnp.asarray(x[0], jnp.bfloat16)
    assert jitted(low).dtype == jnp.float32
    np.testing.assert_array_equal(jitted(low), jitted(low.astype(jnp.float32)))


@pytest.mark.parametrize(
    "function",
    [
        spectral.cosine_similarity,
        spectral.eigenvector_alignment,
        spectral.lidar_of_covariances,
    ],
)
def test_functions_of_two_arrays_agree_under_jit_and_vmap(function):
    x, y = normal(2, 3, 4, 4)
    y = y @ y.transpose(0, 2, 1)
    eager = [function(*pair) for pair in zip(x, y, strict=True)]
    jitted = [jax.jit(function)(*pair) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(jitted, eager, atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(x, y), eager, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (spectral.effective_rank, [(4,)]),
        (spectral.normalized_std, [(2, 3, 4)]),
        (spectral.spectrum_exponent, [(2, 3)]),
        (spectral.lidar, [(3, 4)]),
        (spectral.lidar_of_covariances, [(4, 4), (3, 3)]),
        (spectral.cosine_similarity, [(3, 4), (1, 4)]),
        (spectral.eigenvector_alignment, [(4, 4), (3, 3)]),
        (spectral.eigenvector_alignment, [(4, 3), (4, 3)]),
    ],
)
def test_wrong_shapes_are_refused(function, shapes):
    with pytest.raises(AssertionError, match="rank|shape"):
        function(*map(jnp.ones, shapes))
