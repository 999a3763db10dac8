"""What a network passes to all of its parts: the axis of the devices and the type."""

import re

import jax
import jax.numpy as jnp
import pytest

from isojax.configs import digits
from isojax.models import BACKBONES, LEARNED_PREDICTORS, build_network
from isojax.training.settings import network_settings

IMAGES = jnp.zeros((4, 8, 8, 1))
SETTINGS = network_settings(digits.get_config())._replace(
    width=2, patch_size=4, hidden_dim=8, projection_dim=4, predictor_hidden_dim=6
)
DEEPER = ("resnet34", "vit_small")  # of the classes of other backbones
networks = pytest.mark.parametrize(
    ("backbone", "predictor"),
    [("resnet18", predictor) for predictor in (None, *LEARNED_PREDICTORS)]
    + [
        pytest.param(
            backbone,
            None,
            marks=pytest.mark.slow if backbone in DEEPER else pytest.mark.long,
        )
        for backbone in BACKBONES
        if backbone != "resnet18"
    ],
)


def trace(backbone, predictor, **options):
    """Returns the program of all parts in training, its results and the variables."""
    settings = SETTINGS._replace(backbone=backbone)
    network = build_network(settings, predictor=predictor, **options)
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), IMAGES, method="initialize")
    )

    def apply(variables):
        training = {"train": True, "mutable": ["batch_stats"]}
        (*outputs,), _ = network.apply(variables, IMAGES, **training)
        if predictor is not None:
            prediction, _ = network.apply(
                variables, outputs[-1], method="predict", **training
            )
            outputs.append(prediction)
        return outputs

    program = jax.make_jaxpr(apply, axis_env=[("devices", 4)])(variables)
    return str(program), program.out_avals, variables


def product_types(program):
    """Returns the types of the results of all matrix products and convolutions."""
    return re.findall(
        r":(\w+)\[[^\]]*\] = (?:dot_general|conv_general_dilated)", program
    )


@networks
def test_every_normalisation_uses_the_statistics_of_all_devices(backbone, predictor):
    program, _, variables = trace(backbone, predictor, axis_name="devices")
    moments = jax.tree.leaves(variables["batch_stats"])  # a mean and a variance each
    has_statistics = {
        "backbone": backbone.startswith("resnet"),  # transformers normalise tokens
        "projector": True,
        "predictor": predictor == "mlp",
    }
    for part, is_expected in has_statistics.items():
        assert (part in variables["batch_stats"]) == is_expected
    assert program.count("all_gather[") == len(moments) / 2
    assert "all_gather[" not in trace(backbone, predictor)[0]


@networks
def test_bfloat16_is_the_type_of_all_products_and_of_no_result(backbone, predictor):
    program, results, variables = trace(backbone, predictor, dtype=jnp.bfloat16)
    types = product_types(program)
    # The linear predictor's product stays in float32, like the closed-form one's. The
    # logits of attention are sums in float32 of products of bfloat16, in 12 blocks.
    in_float32 = 12 * backbone.startswith("vit") + (predictor == "linear")
    assert types.count("f32") == in_float32
    assert types.count("bf16") == len(types) - types.count("f32") > 20
    assert {x.dtype for x in results} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert set(product_types(trace(backbone, predictor)[0])) == {"f32"}


@pytest.mark.parametrize("remat", [True, False])
@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny"])
def test_remat_is_passed_to_the_backbone(backbone, remat):
    program, _, _ = trace(backbone, None, remat=remat)
    assert ("= remat2[" in program) == remat
