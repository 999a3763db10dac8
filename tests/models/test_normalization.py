import jax
import jax.numpy as jnp
import numpy as np

from isojax.models import BatchNorm

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


def test_statistics_and_gradients_of_a_spread_batch_are_the_global_ones():
    variables = BatchNorm().init(jax.random.key(0), X, train=False)
    weights = jax.random.normal(jax.random.key(1), X.shape)

    def loss(x, weights, axis_name):
        y, mutated = BatchNorm(axis_name=axis_name).apply(
            variables, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(weights * y), mutated

    gradient, mutated = jax.grad(loss, has_aux=True)(X, weights, None)
    spread = jax.vmap(
        lambda x, weights: jax.grad(loss, has_aux=True)(x, weights, "devices"),
        axis_name="devices",
    )
    spread_gradient, spread_mutated = spread(
        X.reshape(4, 2, *X.shape[1:]), weights.reshape(4, 2, *X.shape[1:])
    )
    np.testing.assert_allclose(spread_gradient.reshape(X.shape), gradient, atol=1e-5)
    for one, every in zip(
        jax.tree.leaves(mutated), jax.tree.leaves(spread_mutated), strict=True
    ):
        for device in every:
            np.testing.assert_allclose(device, one, rtol=1e-5)


def test_a_constant_channel_stays_finite():
    y, mutated = train(jnp.ones((4, 2)))
    np.testing.assert_array_equal(y, 0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(mutated))
