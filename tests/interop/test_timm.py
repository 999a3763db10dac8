import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from isojax.errors import UsageError
from isojax.interop import timm_state_dict
from isojax.models import BACKBONES, ViT
from tests.interop import reference

REFERENCE = dict(np.load(reference.TIMM))
SMALL = ViT(
    patch_size=reference.VIT["patch_size"],
    dim=reference.VIT["embed_dim"],
    depth=reference.VIT["depth"],
    heads=reference.VIT["num_heads"],
)


def shapes_of(network, side):
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


def with_numbers(shapes, state_dict):
    """The variables whose export is the given state dict.

    Found by exporting variables that hold the place of each number in a flat list.
    """
    flat, first, places = flatten_dict(shapes), 0, {}
    for path, leaf in flat.items():
        places[path] = np.arange(first, first + leaf.size).reshape(leaf.shape)
        first += leaf.size
    numbers = np.zeros(first, np.float32)
    for name, where in timm_state_dict(unflatten_dict(places)).items():
        numbers[where.ravel()] = state_dict[name].ravel()
    return unflatten_dict({path: numbers[where] for path, where in places.items()})


def test_features_are_those_of_timm():
    tensors = reference.shapes_of(REFERENCE, "vit")
    state_dict = {name: reference.draw(name, shape) for name, shape in tensors.items()}
    variables = with_numbers(shapes_of(SMALL, reference.SIDES["vit"]), state_dict)
    for name, array in timm_state_dict(variables).items():
        np.testing.assert_array_equal(array, state_dict[name])
        assert array.flags["C_CONTIGUOUS"] and array.flags["WRITEABLE"]
    features = jax.jit(SMALL.apply)(variables, reference.draw_images("vit"))
    expected = REFERENCE["vit_features"]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", reference.VITS)
def test_names_and_shapes_are_timms(name):
    shapes = shapes_of(BACKBONES[name](), 224)
    variables = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes)
    found = {name: array.shape for name, array in timm_state_dict(variables).items()}
    assert found == reference.shapes_of(REFERENCE, name)


@pytest.mark.parametrize(
    "path", [("head", "kernel"), ("block1", "norm3", "scale"), ("block1", "norm1")]
)
def test_another_networks_variables_have_no_names(path):
    variables = unflatten_dict({("params", *path): np.zeros((2, 2))})
    with pytest.raises(UsageError, match=f"{'/'.join(path)} .* no name"):
        timm_state_dict(variables)
