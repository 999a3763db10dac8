from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.models.convolution import Conv, convolve, convolve_patches


def reference(x, kernel, stride, padding):
    pad = kernel.shape[0] // 2 if padding is None else padding
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize(
    ("side", "kernel_side", "stride", "padding"),
    [
        (8, 3, 1, None),
        (8, 3, 2, None),
        (7, 3, 2, None),
        (2, 3, 1, None),
        (1, 3, 1, None),
        (8, 1, 2, None),
        (9, 7, 2, None),
        (8, 3, 1, 2),
        (8, 3, 2, 0),
        (2, 3, 1, 2),
        (2, 3, 2, 4),
    ],
)
def test_every_path_is_the_convolution_and_its_gradients(
    side, kernel_side, stride, padding
):
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
    kernel = jax.random.normal(jax.random.key(1), (kernel_side, kernel_side, 3, 5))
    expected = reference(x, kernel, stride, padding)
    actual = convolve(x, kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)

    weights = jax.random.normal(jax.random.key(2), expected.shape)
    for argument in (0, 1):
        expected, actual = (
            jax.grad(
                lambda x, kernel, function=function: jnp.sum(
                    weights * function(x, kernel)
                ),
                argument,
            )(x, kernel)
            for function in (
                lambda x, kernel: reference(x, kernel, stride, padding),
                lambda x, kernel: convolve(x, kernel, stride=stride, padding=padding),
            )
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("side", "stride", "used"), [(1, 1, 1), (2, 2, 4), (2, 1, 9)])
def test_what_meets_the_padding_only_is_not_multiplied(side, stride, used):
    x, kernel = jnp.ones((2, side, side, 8)), jnp.ones((3, 3, 8, 5))
    multiply = partial(convolve_patches, stride=stride, padding=1)
    (product,) = [
        equation
        for equation in jax.make_jaxpr(multiply)(x, kernel).eqns
        if equation.primitive.name == "dot_general"
    ]
    patches = product.invars[0].aval
    assert patches.shape[-1] == used * 8


def test_weights_start_he_normal_over_the_fan_out():
    variables = Conv(64, 3).init(jax.random.key(0), jnp.zeros((1, 8, 8, 32)))
    kernel = variables["params"]["kernel"]
    assert set(variables["params"]) == {"kernel"}  # no bias
    assert abs(kernel.var() / (2 / (9 * 64)) - 1) < 0.05
    assert abs(kernel.mean()) < 1e-3
