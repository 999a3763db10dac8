import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.models.pooling import max_pool_directly, max_pool_slices


@pytest.mark.parametrize("side", [8, 7, 2, 1])
@pytest.mark.parametrize("values", [3, 1_000_000])
def test_both_ways_give_the_same_maxima_and_gradients(side, values):
    """With few values most windows have several maxima."""
    x = jax.random.randint(jax.random.key(0), (2, side, side, 5), -values, values + 1)
    x = x / values
    directly, back = jax.vjp(max_pool_directly, x)
    by_slices, back_by_slices = jax.vjp(max_pool_slices, x)
    assert by_slices.shape == (2, -(-side // 2), -(-side // 2), 5)
    np.testing.assert_array_equal(by_slices, directly)
    weights = jax.random.normal(jax.random.key(1), directly.shape)
    np.testing.assert_allclose(
        *(function(weights)[0] for function in (back_by_slices, back)), rtol=1e-6
    )


def test_a_window_of_nan_is_nan():
    pooled = max_pool_slices(jnp.full((1, 4, 4, 1), jnp.nan))
    assert jnp.isnan(pooled).all()
