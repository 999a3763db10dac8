"""What a network passes to all of its parts: the axis of the devices and the type."""

import re

import jax
import jax.numpy as jnp
import pytest

from isojax.configs import digits
from isojax.models import LEARNED_PREDICTORS, build_network
from isojax.training.settings import network_settings

IMAGES = jnp.zeros((4, 8, 8, 1))
SETTINGS = network_settings(digits.get_config())._replace(
    width=2, hidden_dim=8, projection_dim=4, predictor_hidden_dim=6
)
predictors = pytest.mark.parametrize("predictor", [None, *LEARNED_PREDICTORS])


def trace(predictor, **options):
    """Returns the program of all parts in training, its results and the variables."""
    network = build_network(SETTINGS, predictor=predictor, **options)
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


@predictors
def test_every_normalisation_uses_the_statistics_of_all_devices(predictor):
    program, _, variables = trace(predictor, axis_name="devices")
    moments = jax.tree.leaves(variables["batch_stats"])  # a mean and a variance each
    assert set(variables["batch_stats"]) == {"backbone", "projector"} | (
        {"predictor"} if predictor == "mlp" else set()
    )
    assert program.count("all_gather[") == len(moments) / 2
    assert "all_gather[" not in trace(predictor)[0]


@predictors
def test_bfloat16_is_the_type_of_all_products_and_of_no_result(predictor):
    program, results, variables = trace(predictor, dtype=jnp.bfloat16)
    types = product_types(program)
    # The linear predictor's product stays in float32, like the closed-form one's.
    assert types.count("f32") == (predictor == "linear")
    assert types.count("bf16") == len(types) - types.count("f32") > 20
    assert {x.dtype for x in results} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert set(product_types(trace(predictor)[0])) == {"f32"}


@pytest.mark.parametrize("remat", [True, False])
def test_remat_is_passed_to_the_backbone(remat):
    program, _, _ = trace(None, remat=remat)
    assert ("= remat2[" in program) == remat
