import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from isojax.dynamics import views
from isojax.dynamics.wishart import sample_diagonal

NOISES = [(0.0, 0.0), (0.0, 0.1), (0.7, 0.0), (0.4, 1.3)]


def covariance_of_views(view_noise, inputs):
    """Of x + sigma_1 xi_1 and x + sigma_2 xi_2 stacked."""
    return np.kron(np.ones((2, 2)) + np.diag(np.square(view_noise)), np.eye(inputs))


def stacked_views(columns, view_noise):
    return np.concatenate(views.mix_views(columns, jnp.array(view_noise)))


def draw_samples(key, samples):
    return views.draw_samples(key, inputs=2, samples=samples, dtype=jnp.float32)


def draw_factor(key, samples):
    diagonal = sample_diagonal(key, dim=4, samples=samples)
    return views.draw_factor(key, diagonal, inputs=2, samples=samples)


@pytest.mark.parametrize("view_noise", NOISES, ids=str)
def test_expected_factor_is_one_of_the_covariance(view_noise, x64):
    columns, shares = views.expected_factor(inputs=3, dtype=jnp.float64)
    factor = stacked_views(columns[0], view_noise)
    np.testing.assert_array_equal(shares, np.ones((1, 6)))
    np.testing.assert_allclose(
        factor @ factor.T, covariance_of_views(view_noise, 3), atol=1e-14
    )


@pytest.mark.parametrize("view_noise", NOISES, ids=str)
@pytest.mark.parametrize("draw", [draw_samples, draw_factor])
def test_drawn_views_have_the_covariance(draw, view_noise):
    n = 400_000
    columns, shares = jax.jit(draw, static_argnums=1)(jax.random.key(1), n)
    moment = sum(
        (y * share) @ y.T
        for y, share in zip(
            [stacked_views(chunk, view_noise) for chunk in columns],
            np.asarray(shares),
            strict=True,
        )
    )
    covariance = covariance_of_views(view_noise, 2)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        moment / np.outer(scale, scale),
        covariance / np.outer(scale, scale),
        atol=5 * np.sqrt(2 / n),
    )


@pytest.mark.parametrize(("samples", "chunks"), [(1, 1), (50, 5), (51, 6), (60, 6)])
def test_chunks_are_equal_and_surplus_samples_have_no_share(
    samples, chunks, monkeypatch
):
    monkeypatch.setattr(views, "_CHUNK", 10)
    columns, shares = views.draw_samples(
        jax.random.key(0), inputs=2, samples=samples, dtype=jnp.float32
    )
    assert columns.shape == (chunks, 2, 2, shares.shape[1])
    assert shares.shape[0] == chunks and shares.shape[1] <= 10
    assert (shares > 0).sum() == samples
    np.testing.assert_allclose(shares[shares > 0], 1 / samples, rtol=1e-6)


@pytest.mark.long
def test_normals_are_standard_and_independent():
    x = np.asarray(
        jax.jit(views.sample_normal, static_argnums=1)(jax.random.key(0), (4, 250_000))
    )
    assert x.dtype == np.float32 and np.isfinite(x).all()
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    correlations = np.corrcoef([*x, *(x**2), x[0][::-1], np.roll(x[0], 1)])
    off_diagonal = correlations[~np.eye(len(correlations), dtype=bool)]
    assert abs(off_diagonal).max() < 5 / np.sqrt(x.shape[1])


def test_normals_end_at_the_grid(monkeypatch):
    words = jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(views, "threefry_2x32", lambda seed, count: words)
    low, middle, high = views.sample_normal(jax.random.key(0), (3,))
    assert low == -high
    assert 5 < high < 6
    assert 0 < middle < 1e-6


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_normals_follow_from_the_key_whatever_its_implementation(implementation):
    key, other = jax.random.split(jax.random.key(0, impl=implementation))
    drawn = views.sample_normal(key, (50,))
    np.testing.assert_array_equal(drawn, views.sample_normal(key, (50,)))
    assert (drawn != views.sample_normal(other, (50,))).all()


@pytest.mark.parametrize(
    ("total", "largest", "split"),
    [
        (1, 10, (1, 1)),
        (10, 10, (1, 10)),
        (11, 10, (2, 6)),
        (50_000, 2_500, (20, 2_500)),
    ],
)
def test_parts_are_even(total, largest, split):
    assert views.split_evenly(total, largest) == split
