import jax
import jax.numpy as jnp
import pytest

from isojax.errors import UsageError
from isojax.models import BACKBONES
from isojax.models.backbones import build_backbone


@pytest.mark.parametrize(
    ("name", "features", "parameters"),
    # torchvision's numbers without the classifier.
    [
        ("resnet18", 512, 11_176_512),
        ("resnet34", 512, 21_284_672),
        ("resnet50", 2048, 23_508_032),
    ],
)
def test_the_resnets_have_as_many_parameters_as_torchvisions(
    name, features, parameters
):
    network = BACKBONES[name](kernel_size=7, stride=2, max_pool=True)
    output, variables = jax.eval_shape(
        lambda: network.init_with_output(jax.random.key(0), jnp.zeros((2, 64, 64, 3)))
    )
    assert output.shape == (2, features)
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == parameters


def test_a_bottleneck_strides_in_its_second_convolution():
    network = BACKBONES["resnet50"](width=4)
    _, variables = jax.eval_shape(
        lambda: network.init_with_output(
            jax.random.key(0),
            jnp.zeros((2, 32, 32, 3)),
            capture_intermediates=True,
            mutable=["params", "batch_stats", "intermediates"],
        )
    )
    block = variables["intermediates"]["stage2_block1"]
    shapes = [block[f"conv{number}"]["__call__"][0].shape for number in (1, 2, 3)]
    assert shapes == [(2, 32, 32, 8), (2, 16, 16, 8), (2, 16, 16, 32)]


def test_a_backbone_takes_the_arguments_that_it_knows():
    network = build_backbone("vit_tiny", {"patch_size": 7, "width": 3, "remat": True})
    assert (network.patch_size, network.remat) == (7, True)
    network = build_backbone("resnet50", {"patch_size": 7, "width": 3, "remat": True})
    assert (network.width, network.remat) == (3, True)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UsageError, match="backbone=resnet19: .*resnet18, .*vit_small"):
        build_backbone("resnet19", {})
