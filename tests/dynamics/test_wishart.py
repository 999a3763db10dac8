import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from isojax.dynamics.wishart import sample_diagonal, sample_second_moment_factor

DRAWS = 20_000
# More samples than dimensions, as many, and fewer.
SIZES = [(3, 50_000), (3, 7), (3, 3), (5, 2), (4, 1)]
all_sizes = pytest.mark.parametrize(("dim", "samples"), SIZES)


def draw_factor(key, dim, samples, dtype=jnp.float32):
    diagonal = sample_diagonal(key, dim=dim, samples=samples, dtype=dtype)
    return sample_second_moment_factor(key, diagonal, dim=dim, samples=samples)


@functools.cache
def drawn_factors(dim, samples):
    draw = functools.partial(draw_factor, dim=dim, samples=samples)
    return np.asarray(
        jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), DRAWS))
    )


def drawn_moments(dim, samples):
    factors = drawn_factors(dim, samples).astype(np.float64)
    return factors @ factors.transpose(0, 2, 1)


def sampled_moments(dim, samples):
    x = np.random.default_rng(0).normal(size=(DRAWS, dim, samples))
    return x @ x.transpose(0, 2, 1) / samples


@all_sizes
def test_factor_is_trapezoidal_of_the_least_rank(dim, samples):
    factors = drawn_factors(dim, samples)
    assert factors.shape == (DRAWS, dim, min(dim, samples))
    assert (np.triu(factors, 1) == 0).all()
    ranks = np.linalg.matrix_rank(factors[:200].astype(np.float64))
    assert (ranks == min(dim, samples)).all()


@all_sizes
def test_moments_have_the_mean_and_variance_of_the_wishart_law(dim, samples):
    moments = drawn_moments(dim, samples)
    variance = (1 + np.eye(dim)) / samples
    error = np.sqrt(variance / DRAWS)
    np.testing.assert_array_less(abs(moments.mean(0) - np.eye(dim)), 5 * error)
    # Entries have heavier tails than normal ones: their kurtosis is 3 + 12 / n at most.
    relative = np.sqrt((2 + 12 / samples) / DRAWS)
    np.testing.assert_allclose(moments.var(0), variance, rtol=5 * relative)


@all_sizes
def test_every_direction_and_the_trace_are_chi_squared(dim, samples):
    moments = drawn_moments(dim, samples)
    direction = np.random.default_rng(1).normal(size=dim)
    direction /= np.linalg.norm(direction)
    along = samples * np.einsum("i,kij,j->k", direction, moments, direction)
    assert stats.kstest(along, "chi2", (samples,)).pvalue > 1e-3
    trace = samples * np.trace(moments, axis1=1, axis2=2)
    assert stats.kstest(trace, "chi2", (samples * dim,)).pvalue > 1e-3


@pytest.mark.parametrize(("dim", "samples"), [(3, 7), (3, 3), (5, 2)])
def test_spectrum_is_that_of_sampled_vectors(dim, samples):
    drawn, sampled = (
        np.linalg.eigvalsh(moments(dim, samples))[:, -min(dim, samples) :]
        for moments in (drawn_moments, sampled_moments)
    )
    for statistic in (np.max, np.min, lambda s, axis: np.log(s).sum(axis)):
        pair = statistic(drawn, axis=1), statistic(sampled, axis=1)
        assert stats.ks_2samp(*pair).pvalue > 1e-3


def test_factors_of_a_singular_covariance_are_singular():
    mixing = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    factors = mixing @ drawn_factors(3, 50_000)[:, :2]
    moments = factors @ factors.transpose(0, 2, 1)
    np.testing.assert_allclose(moments.mean(0), mixing @ mixing.T, atol=1e-3)
    np.testing.assert_allclose(moments[:, 0], moments[:, 1], rtol=1e-6)


def test_dtype_and_key_are_those_given(x64):
    key = jax.random.key(3)
    draw = jax.jit(
        functools.partial(draw_factor, dim=3, samples=9),
        static_argnames="dtype",
    )
    assert draw(key).dtype == jnp.float32
    double = draw(key, dtype=jnp.float64)
    assert double.dtype == jnp.float64
    np.testing.assert_array_equal(double, draw(key, dtype=jnp.float64))
    assert (double != draw(jax.random.key(4), dtype=jnp.float64))[1:, 0].all()


@pytest.mark.parametrize(
    "sizes",
    [
        {"dim": 0, "samples": 3},
        {"dim": 2, "samples": 0},
        {"dim": 2, "samples": 2.5},
        {"dim": "two", "samples": 2},
    ],
)
def test_sizes_that_are_not_counts_are_refused(sizes):
    with pytest.raises(ValueError, match="not a positive integer"):
        sample_diagonal(jax.random.key(0), **sizes)
