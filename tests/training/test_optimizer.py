import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import optimizer_settings


def settings(**changes):
    return optimizer_settings(digits.get_config())._replace(**changes)


def test_the_rate_warms_up_over_a_fraction_of_epochs_and_decays_to_zero():
    config = settings(learning_rate=0.3, warmup_epochs=1.5, warmup_start=0.06)
    _, learning_rate = make_optimizer(config, steps_per_epoch=4, epochs=5)
    warmup = 0.06 + (0.3 - 0.06) * np.arange(6) / 6
    decay = 0.3 * (1 + np.cos(np.pi * np.arange(15) / 14)) / 2
    rates = [float(learning_rate(step)) for step in range(21)]
    np.testing.assert_allclose(rates, [*warmup, *decay], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_adds_decay_to_the_gradient_before_plain_momentum(weight_decay):
    config = settings(
        learning_rate=0.3, momentum=0.8, weight_decay=weight_decay, warmup_epochs=1.0
    )
    optimizer, learning_rate = make_optimizer(config, steps_per_epoch=2, epochs=3)
    p, velocity = np.array([[1.0, -2.0], [0.5, 3.0]]), 0.0
    params = {"kernel": jnp.asarray(p, jnp.float32), "bias": jnp.ones(2)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(4):
        g = np.cos(step + p)
        gradients = {"kernel": jnp.asarray(g, jnp.float32), "bias": jnp.zeros(2)}
        updates, state = update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        velocity = 0.8 * velocity + g + weight_decay * p
        p = p - float(learning_rate(step)) * velocity
        np.testing.assert_allclose(params["kernel"], p, rtol=1e-5)
    # Biases are decayed too.
    assert (params["bias"][0] < 1) == (weight_decay > 0)


def test_adamw_decays_matrices_apart_from_the_adaptive_gradient():
    config = settings(
        name="adamw", learning_rate=0.3, momentum=0.8, weight_decay=0.1, warmup_epochs=0
    )
    optimizer, learning_rate = make_optimizer(config, steps_per_epoch=2, epochs=3)
    p, mean, square = np.array([[1.0, -2.0], [0.5, 3.0]]), 0.0, 0.0
    params = {"kernel": jnp.asarray(p, jnp.float32), "bias": jnp.ones(2)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(4):
        g = np.cos(step + p)
        gradients = {"kernel": jnp.asarray(g, jnp.float32), "bias": jnp.zeros(2)}
        updates, state = update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        mean = 0.8 * mean + 0.2 * g
        square = 0.999 * square + 0.001 * g**2
        adaptive = mean / (1 - 0.8 ** (step + 1))
        adaptive /= np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8
        p = p - float(learning_rate(step)) * (adaptive + 0.1 * p)
        np.testing.assert_allclose(params["kernel"], p, rtol=1e-4)
    np.testing.assert_array_equal(params["bias"], 1.0)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(UsageError, match="optimizer.name=adam: .* sgd, lars, adamw"):
        make_optimizer(settings(name="adam"), steps_per_epoch=1, epochs=1)
