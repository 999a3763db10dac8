import chex
import jax
import jax.numpy as jnp
import pytest

from isojax.models import ResNet18

# Side of the images, stem, and side of the maps that reach the last stage.
STEMS = {
    "cifar": (32, dict(kernel_size=3, stride=1, max_pool=False), 4),
    "stl10": (96, dict(kernel_size=7, stride=2, max_pool=True), 3),
    "tinyimagenet": (64, dict(kernel_size=3, stride=1, max_pool=True), 4),
    "digits": (28, dict(kernel_size=3, stride=2, max_pool=False), 2),
}


def shapes(side, stem, width=64):
    network = ResNet18(width=width, **stem)

    def run():
        return network.init_with_output(
            jax.random.key(0),
            jnp.zeros((2, side, side, 3)),
            capture_intermediates=True,
            mutable=["params", "batch_stats", "intermediates"],
        )

    return jax.eval_shape(run)


@pytest.mark.parametrize("name", STEMS)
def test_every_stem_gives_representations_of_eight_widths(name):
    side, stem, last_side = STEMS[name]
    output, variables = shapes(side, stem, width=16)
    assert output.shape == (2, 128)
    last = variables["intermediates"]["stage4_block2"]["__call__"][0]
    assert last.shape == (2, last_side, last_side, 128)


@pytest.mark.parametrize(
    ("kernel_size", "expected"), [(7, 11_176_512), (3, 11_168_832)]
)
def test_the_parameters_are_as_many_as_he_et_al_s_without_the_classifier(
    kernel_size, expected
):
    _, variables = shapes(32, dict(kernel_size=kernel_size))
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == expected


def test_evaluation_treats_each_image_alone():
    network = ResNet18(width=4, stride=2)
    images = jax.random.normal(jax.random.key(0), (3, 16, 16, 1))
    variables = jax.jit(network.init)(jax.random.key(1), images)
    apply = jax.jit(network.apply)
    together = apply(variables, images)
    assert jnp.allclose(apply(variables, images[1:2])[0], together[1], atol=1e-5)
    assert jnp.abs(together[0] - together[1]).max() > 1e-3


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match=r"\(32, 32, 3\); ResNet18 .*\(n, h, w, c\)"):
        ResNet18().init(jax.random.key(0), jnp.zeros((32, 32, 3)))


def gradient(network, variables, images):
    def loss(params):
        output, _ = network.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.square(output).sum(), output

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


@pytest.fixture(scope="module")
def small():
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
    network = ResNet18(width=4, stride=2)
    variables = jax.jit(network.init)(jax.random.key(1), images)
    return variables, images, gradient(network, variables, images)


@pytest.mark.long
def test_remat_changes_no_number(small):
    variables, images, (expected, output) = small
    network = ResNet18(width=4, stride=2, remat=True)
    again, output_again = gradient(network, variables, images)
    assert jnp.allclose(output_again, output, rtol=1e-5)
    chex.assert_trees_all_close(again, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_bfloat16_computes_near_float32_and_keeps_its_parameters(small):
    variables, images, _ = small
    network = ResNet18(width=4, stride=2, dtype=jnp.bfloat16)
    output = jax.jit(ResNet18(width=4, stride=2).apply)(variables, images)
    rounded = jax.jit(network.apply)(variables, images)
    error = jnp.linalg.norm(rounded - output) / jnp.linalg.norm(output)
    assert 1e-4 < error < 0.03  # it did round, and to two or three digits
    gradients, rounded = gradient(network, variables, images)
    for leaf in [rounded, *jax.tree.leaves(gradients)]:
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()
