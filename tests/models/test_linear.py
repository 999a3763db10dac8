import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.models import MLP, Linear, LinearMap


def is_uniform_over_the_fan_in(array, fan_in):
    """Within the bounds of U(-1/√n, 1/√n), nearly reaching them, with its variance."""
    bound = fan_in**-0.5
    array = np.asarray(array)
    assert abs(array).max() <= bound
    # Within five standard errors.
    assert abs(array).max() > bound * (1 - 10 / array.size)
    assert abs(array.mean()) < 5 * bound / np.sqrt(3 * array.size)
    assert abs(3 * fan_in * array.var() - 1) < 5 / np.sqrt(array.size)


def test_every_head_starts_as_pytorch_s_linear_layers():
    x = jnp.zeros((2, 400))
    projector = MLP(900, 300).init(jax.random.key(0), x, train=False)["params"]
    for layer, fan_in in (("hidden", 400), ("output", 900)):
        for array in projector[layer].values():
            is_uniform_over_the_fan_in(array, fan_in)
    predictor = LinearMap(400).init(jax.random.key(0), x, train=False)["params"]
    assert set(predictor["map"]) == {"kernel"}
    is_uniform_over_the_fan_in(predictor["map"]["kernel"], 400)


def test_kernel_and_bias_are_drawn_apart():
    params = Linear(3).init(jax.random.key(0), jnp.zeros((1, 1)))["params"]
    assert not jnp.isclose(params["kernel"][0], params["bias"]).any()


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7)])
def test_the_map_is_flax_s_dense_layer(use_bias, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    linear, dense = Linear(4, use_bias), nn.Dense(4, use_bias)
    variables = linear.init(jax.random.key(1), x)
    np.testing.assert_allclose(
        linear.apply(variables, x), dense.apply(variables, x), rtol=1e-6, atol=1e-6
    )


def test_bfloat16_is_the_type_of_the_result_and_not_of_the_parameters():
    x = jax.random.normal(jax.random.key(0), (5, 7))
    y, variables = Linear(4, dtype=jnp.bfloat16).init_with_output(jax.random.key(1), x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.float32.dtype}
    np.testing.assert_allclose(
        np.float32(y), Linear(4).apply(variables, x), rtol=0.02, atol=0.02
    )
