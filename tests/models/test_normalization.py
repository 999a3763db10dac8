import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.models import BatchNorm
from isojax.models.normalization import normalize_batch

X = jax.random.normal(jax.random.key(0), (8, 3, 3, 4)) * 2 + 1


def train(x, **attributes):
    norm = BatchNorm(**attributes)
    variables = norm.init(jax.random.key(0), x, train=False)
    return norm.apply(variables, x, train=True, mutable=["batch_stats"])


def test_training_normalises_with_the_population_variance_of_the_batch():
    x = np.asarray(X, np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(train(X)[0], expected, atol=1e-5)


def test_running_statistics_move_a_tenth_towards_the_sample_statistics():
    _, mutated = train(X)
    x = np.asarray(X, np.float64)
    stats = mutated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
    sample_var = x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * sample_var, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    norm = BatchNorm()
    variables = {
        "params": {"scale": jnp.full(4, 2.0), "bias": jnp.ones(4)},
        "batch_stats": {"mean": jnp.full(4, 0.5), "var": jnp.full(4, 4.0)},
    }
    y, mutated = norm.apply(variables, X, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, 2 * (X - 0.5) / np.sqrt(4 + 1e-5) + 1, rtol=1e-5)
    np.testing.assert_array_equal(mutated["batch_stats"]["var"], 4.0)


@pytest.mark.parametrize("ratio", [0, 1, 100, 1_000])
def test_a_batch_over_several_devices_is_normalised_as_on_one(ratio):
    """Forward pass, running statistics and gradients; `ratio` is mean over std."""
    # Multiples of 1/64, whose sums are exact in float32: only the way that devices
    # combine their statistics can differ.
    x = jnp.round(64 * jax.random.normal(jax.random.key(0), (8, 2, 4, 3))) / 64
    # The devices' own means differ too.
    x = ratio + x.at[:2].add(2.0)
    variables = BatchNorm().init(jax.random.key(0), x, train=False)
    weights = jax.random.normal(jax.random.key(1), x.shape)

    def loss(x, params, weights, axis_name):
        y, mutated = BatchNorm(axis_name=axis_name).apply(
            variables | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(weights * y), (y, mutated["batch_stats"])

    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (by_x, by_params), (y, stats) = gradient(x, variables["params"], weights, None)
    spread = jax.vmap(
        lambda x, weights: gradient(x, variables["params"], weights, "devices"),
        axis_name="devices",
    )
    (spread_by_x, spread_by_params), (spread_y, spread_stats) = spread(
        x.reshape(4, 2, *x.shape[1:]), weights.reshape(4, 2, *x.shape[1:])
    )
    np.testing.assert_allclose(spread_y.reshape(x.shape), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(spread_by_x.reshape(x.shape), by_x, rtol=1e-5, atol=1e-5)
    for name, value in by_params.items():
        np.testing.assert_allclose(spread_by_params[name].sum(0), value, rtol=1e-5)
    wide = np.asarray(x, np.float64)
    expected = {
        "mean": 0.1 * wide.mean((0, 1, 2)),
        "var": 0.9 + 0.1 * wide.var((0, 1, 2), ddof=1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(stats[name], value, rtol=1e-5, atol=1e-7)
        for device in spread_stats[name]:
            np.testing.assert_allclose(device, value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ratio", [0, 10, 100])
def test_the_variance_in_bfloat16_is_more_precise_than_the_batch(ratio):
    """`ratio` is mean over standard deviation."""
    x = ratio + jax.random.normal(jax.random.key(0), (64, 8, 8, 3))
    x = x.astype(jnp.bfloat16)
    _, moments = normalize_batch(x, jnp.ones(3), jnp.zeros(3), 1e-5, None)
    wide = np.asarray(x, np.float64)
    by_rounding = ratio**2 * 2.0**-18 / 3
    np.testing.assert_allclose(
        moments.var, wide.var((0, 1, 2)), rtol=1e-5, atol=by_rounding / 4
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_constant_channel_stays_finite(dtype):
    y, mutated = train(jnp.ones((4, 2), dtype))
    np.testing.assert_array_equal(y, 0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(mutated))


def test_the_gradient_is_that_of_the_formula(x64):
    """Compared with automatic differentiation of the formula, in float64."""
    x = jax.random.normal(jax.random.key(0), (4, 2, 3, 5), jnp.float64) + 1
    scale, bias, weights = (
        jax.random.normal(jax.random.key(i), shape, jnp.float64)
        for i, shape in ((1, (5,)), (2, (5,)), (3, x.shape))
    )

    def formula(x, scale, bias):
        deviation = x - x.mean((0, 1, 2), keepdims=True)
        var = jnp.square(deviation).mean((0, 1, 2), keepdims=True)
        y = deviation / jnp.sqrt(var + 1e-3)
        return y * scale[None, None, None] + bias[None, None, None]

    def normalized(x, scale, bias):
        return normalize_batch(x, scale, bias, 1e-3, None)[0]

    gradients, expected = (
        jax.grad(lambda *a, f=function: jnp.sum(weights * f(*a) ** 2), (0, 1, 2))(
            x, scale, bias
        )
        for function in (normalized, formula)
    )
    chex.assert_trees_all_close(gradients, expected, rtol=1e-12, atol=1e-12)


def test_mapped_batches_update_shared_running_statistics_in_order():
    batches = jnp.stack([X, 2 * X + 1, X - 3])
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), X, train=False)
    params, stats = variables["params"], variables["batch_stats"]

    def apply(stats, x):
        y, mutated = norm.apply(
            {"params": params, "batch_stats": stats},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        return y, mutated["batch_stats"]

    shared = jax.vmap(apply, in_axes=(None, 0), out_axes=(0, None))(stats, batches)
    each = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), stats)
    separate = jax.vmap(apply)(each, batches)
    for i, x in enumerate(batches):
        y, alone = apply(variables["batch_stats"], x)
        chex.assert_trees_all_close(
            (y, alone), jax.tree.map(lambda leaf, i=i: leaf[i], separate), rtol=1e-5
        )
        y, stats = apply(stats, x)
        np.testing.assert_allclose(shared[0][i], y, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(shared[1], stats, rtol=1e-5)
