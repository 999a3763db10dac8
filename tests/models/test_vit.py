import chex
import jax
import jax.numpy as jnp
import pytest

from isojax.errors import UsageError
from isojax.models import ViT, ViTSmall, ViTTiny

SMALL = dict(patch_size=4, dim=12, depth=2, heads=3)


@pytest.fixture(scope="module")
def small():
    images = jax.random.normal(jax.random.key(0), (3, 8, 12, 1))
    return jax.jit(ViT(**SMALL).init)(jax.random.key(1), images), images


@pytest.mark.parametrize(
    ("network", "features", "parameters"),
    # timm's numbers for 224×224 pixels and patches of side 16, without the classifier.
    [(ViTTiny, 192, 5_524_416), (ViTSmall, 384, 21_665_664)],
)
def test_the_parameters_are_as_many_as_timms(network, features, parameters):
    images = jnp.zeros((2, 224, 224, 3))
    output, variables = jax.eval_shape(
        lambda: network().init_with_output(jax.random.key(0), images)
    )
    assert output.shape == (2, features)
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters


def test_images_are_treated_alone_and_patches_by_their_position(small):
    variables, images = small
    apply = jax.jit(ViT(**SMALL).apply)
    output = apply(variables, images)
    chex.assert_trees_all_close(apply(variables, images[1:2])[0], output[1], atol=1e-5)
    # The images whose two rows of patches are exchanged.
    moved = apply(variables, jnp.roll(images, 4, axis=1))
    assert jnp.abs(moved - output).max() > 1e-3
    without = jax.tree.map(lambda leaf: leaf, variables)
    without["params"]["position"] = jnp.zeros_like(variables["params"]["position"])
    moved = apply(without, jnp.roll(images, 4, axis=1))
    chex.assert_trees_all_close(moved, apply(without, images), atol=1e-5)


def gradient(network, variables, images):
    def loss(params):
        return jnp.square(network.apply({"params": params}, images, train=True)).sum()

    return jax.jit(jax.grad(loss))(variables["params"])


@pytest.mark.long
def test_remat_changes_no_number(small):
    variables, images = small
    expected = gradient(ViT(**SMALL), variables, images)
    again = gradient(ViT(**SMALL, remat=True), variables, images)
    chex.assert_trees_all_close(again, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_bfloat16_computes_near_float32_and_keeps_its_parameters(small):
    variables, images = small
    network = ViT(**SMALL, dtype=jnp.bfloat16)
    output = jax.jit(ViT(**SMALL).apply)(variables, images)
    rounded = jax.jit(network.apply)(variables, images)
    error = jnp.linalg.norm(rounded - output) / jnp.linalg.norm(output)
    assert 1e-4 < error < 0.03
    for leaf in [rounded, *jax.tree.leaves(gradient(network, variables, images))]:
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 10, 1), r"patch_size=4 .* 8×10 pixels"),
        ((2, 12, 12, 1), "9 patches of side 4, .* 6 patches"),
    ],
)
def test_images_of_another_size_are_refused(small, shape, message):
    with pytest.raises(UsageError, match=message):
        ViT(**SMALL).apply(small[0], jnp.zeros(shape))


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match=r"\(32, 32, 3\); ViTTiny .*\(n, h, w, c\)"):
        ViTTiny().init(jax.random.key(0), jnp.zeros((32, 32, 3)))
