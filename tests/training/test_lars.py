import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.configs import cifar10
from isojax.training.lars import scale_by_trust_ratio
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import optimizer_settings

PARAMS = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.array([1.0, 2.0])}


def lars(**settings):
    config = optimizer_settings(cifar10.get_config("official"))
    config = config._replace(warmup_epochs=0.0, weight_decay=0.1, **settings)
    return make_optimizer(config, steps_per_epoch=10, epochs=1)


def step_of(optimizer, params, gradients):
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return updates


@pytest.mark.parametrize(
    ("rate", "size"),
    # r = 0.02 * 5 / (2 + 0.1 * 5) = 0.04, the step unless the rate is smaller.
    [(1.0, 0.04), (0.01, 0.01)],
)
def test_the_step_is_the_smaller_of_trust_ratio_and_rate(rate, size):
    optimizer, _ = lars(learning_rate=rate)
    gradient = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    updates = step_of(optimizer, PARAMS, {"kernel": gradient, "bias": jnp.ones(2)})
    expected = -size * (gradient + 0.1 * PARAMS["kernel"])
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-6)


def test_without_clipping_the_step_is_trust_ratio_times_rate():
    gradient = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    for rate in (1.0, 0.01):
        optimizer, _ = lars(learning_rate=rate, clip_trust_ratio=False)
        updates = step_of(optimizer, PARAMS, {"kernel": gradient, "bias": jnp.ones(2)})
        expected = -0.04 * rate * (gradient + 0.1 * PARAMS["kernel"])
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-6)
        np.testing.assert_allclose(updates["bias"], -rate)


def test_epsilon_enlarges_the_denominator():
    settings = dict(trust_coefficient=0.02, weight_decay=0.1, epsilon=1.5)
    optimizer = scale_by_trust_ratio(lambda count: 1.0, **settings)
    gradient = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    updates = step_of(optimizer, {"w": PARAMS["kernel"]}, {"w": gradient})
    # r = 0.02 * 5 / (2 + 0.1 * 5 + 1.5)
    expected = 0.025 * (gradient + 0.1 * PARAMS["kernel"])
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)


def test_biases_are_neither_adapted_nor_decayed():
    optimizer, _ = lars(learning_rate=0.5)
    updates = step_of(optimizer, PARAMS, PARAMS)
    np.testing.assert_allclose(updates["bias"], -0.5 * PARAMS["bias"])


@pytest.mark.parametrize("zero", ["kernel", "gradient"])
def test_where_a_norm_is_zero_the_gradient_is_kept(zero):
    optimizer, _ = lars(learning_rate=0.5)
    kernel = PARAMS["kernel"] * (zero != "kernel")
    gradient = jnp.ones((2, 2)) * (zero != "gradient")
    updates = step_of(optimizer, {"w": kernel}, {"w": gradient})
    np.testing.assert_allclose(updates["w"], -0.5 * gradient)


def test_momentum_accumulates_adapted_gradients_along_the_schedule():
    optimizer, learning_rate = lars(learning_rate=1.0)
    p = np.array([[0.5, -1.0]])
    params = {"w": jnp.asarray(p)}
    state, velocity = optimizer.init(params), 0.0
    for k in range(4):
        g = np.array([[np.cos(k), 1.0]])
        updates, state = jax.jit(optimizer.update)({"w": jnp.asarray(g)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        rate = float(learning_rate(k))
        norms = np.linalg.norm(p), np.linalg.norm(g)
        ratio = 0.02 * norms[0] / (norms[1] + 0.1 * norms[0])
        velocity = 0.9 * velocity + min(ratio / rate, 1) * (g + 0.1 * p)
        p = p - rate * velocity
        np.testing.assert_allclose(params["w"], p, rtol=1e-5)


def test_a_rate_of_zero_moves_nothing():
    config = optimizer_settings(cifar10.get_config("official"))
    config = config._replace(warmup_start=0.0)
    optimizer, _ = make_optimizer(config, steps_per_epoch=2, epochs=20)
    updates = step_of(optimizer, PARAMS, PARAMS)
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_array_equal(leaf, 0)
