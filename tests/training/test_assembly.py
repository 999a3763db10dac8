"""The parts of a run take every field of the config that concerns them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import data_parallel
from isojax.models import build_network
from isojax.training.assembly import build_step_context, first_state
from isojax.training.settings import method_settings, network_settings, view_pair
from isojax.training.state import random_key
from tests.training.small_run import small_config, using_small_network
from tests.training.tiny_network import TinyBackbone


def test_a_step_is_built_from_its_config(small_data):
    config = small_config()
    config.update(epochs=5, microbatches=2, precision="bfloat16", remat=True)
    config.method.update(predictor="mlp", form="standard")
    config.augment_view2.brightness = 0.5
    context = build_step_context(config, small_data)
    assert context.axis_name == data_parallel.AXIS
    assert context.network == build_network(
        network_settings(config),
        predictor="mlp",
        axis_name=data_parallel.AXIS,
        dtype=jnp.bfloat16,
        remat=True,
    )
    assert context.method == method_settings(config)
    assert context.views == view_pair(config)
    assert context.views.first != context.views.second
    assert (context.microbatches, context.total_steps) == (2, 15)


@pytest.mark.parametrize(
    ("platform", "precision", "backbone", "stacks_views"),
    [
        ("tpu", "bfloat16", None, True),
        ("gpu", "bfloat16", None, True),
        ("gpu", "float32", None, False),
        ("cpu", "bfloat16", None, False),
        # Its batch statistics may not be those of isojax's BatchNorm.
        ("gpu", "bfloat16", TinyBackbone(), False),
    ],
)
def test_accelerators_process_both_views_at_once_in_bfloat16(
    small_data, platform, precision, backbone, stacks_views
):
    config = small_config()
    config.precision = precision
    context = build_step_context(
        config,
        small_data,
        backbone=backbone,
        devices=[SimpleNamespace(platform=platform)],
    )
    assert context.stacks_views == stacks_views


@pytest.mark.parametrize(("seed", "target"), [(5, "ema"), (6, "online")])
def test_a_run_starts_from_its_seed(small_data, seed, target):
    config = small_config()
    config.seed, config.method.target = seed, target
    with using_small_network(small_data):
        state = first_state(config, small_data)
    np.testing.assert_array_equal(
        jax.random.key_data(state.key), jax.random.key_data(random_key(seed))
    )
    assert state.probe.weights.shape[1] == small_data.num_classes
    assert (state.target_params == {}) == (target == "online")
