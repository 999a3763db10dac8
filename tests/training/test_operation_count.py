import jax
import jax.numpy as jnp
import pytest

from isojax.models import ViT
from isojax.training.operation_count import count_operations

IMAGES, KERNEL = jnp.ones((5, 8, 6, 3)), jnp.ones((3, 3, 3, 7))
CONVOLUTION = 2 * (5 * 8 * 6 * 7) * (3 * 3 * 3)


def count(function, *arguments):
    return count_operations(jax.make_jaxpr(function)(*arguments))


def convolve(images, kernel, stride=1):
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def test_matrix_products_with_and_without_batch_axes():
    assert count(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5))) == 2 * 2 * 3 * 5
    stacks = jnp.ones((4, 2, 3)), jnp.ones((4, 3, 5))
    assert count(jnp.matmul, *stacks) == 4 * (2 * 2 * 3 * 5)
    assert count(jnp.add, jnp.ones(3), jnp.ones(3)) == 0


def test_convolutions_with_stride_and_both_gradients():
    assert count(convolve, IMAGES, KERNEL) == CONVOLUTION
    strided = jax.tree_util.Partial(convolve, stride=2)
    assert count(strided, IMAGES, KERNEL) == CONVOLUTION // 4
    gradient = jax.grad(lambda *both: jnp.sum(convolve(*both) ** 2), argnums=(0, 1))
    assert count(gradient, IMAGES, KERNEL) == 3 * CONVOLUTION


@pytest.mark.parametrize("repeat", ["scan", "jit", "vmap", "remat"])
def test_functions_inside_functions(repeat):
    matrix = jnp.ones((3, 3))

    def square(x):
        return x @ x

    def twice(x):
        if repeat == "scan":
            return jax.lax.scan(lambda c, _: (square(c), None), x, length=2)[0]
        if repeat == "vmap":
            return jax.vmap(square)(jnp.stack([x, x]))
        wrap = {"jit": jax.jit, "remat": jax.checkpoint}[repeat]
        return wrap(square)(wrap(square)(x))

    assert count(twice, matrix) == 2 * (2 * 3 * 3 * 3)


def test_the_largest_branch_counts():
    matrix = jnp.ones((3, 3))
    branches = (lambda x: x, lambda x: x @ x, lambda x: x @ x @ x)
    index = jnp.int32(1)
    result = count(lambda i, x: jax.lax.switch(i, branches, x), index, matrix)
    assert result == 2 * (2 * 3 * 3 * 3)


def test_the_products_of_a_vision_transformer_count():
    n, side, dim, depth = 2, 4, 12, 3
    images = jnp.ones((n, 8, 12, 1))
    network = ViT(patch_size=side, dim=dim, depth=depth, heads=3)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    patches = (8 // side) * (12 // side)
    tokens = 1 + patches
    linear = tokens * 12 * dim**2  # qkv 3, projection 1, MLP 4 and 4
    attention = 2 * tokens**2 * dim
    multiplications = patches * side**2 * dim + depth * (linear + attention)
    assert count(network.apply, variables, images) == 2 * n * multiplications
