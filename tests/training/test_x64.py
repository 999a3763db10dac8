"""State and files have their own types, whatever `jax_enable_x64` is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from isojax.configs import cifar10, digits
from isojax.data.augment import random_views
from isojax.errors import UsageError
from isojax.models import build_network
from isojax.runs.config_file import save_config
from isojax.training import load_encoder
from isojax.training.checkpoint import Checkpoints
from isojax.training.encoder import random_encoder
from isojax.training.settings import network_settings, view_settings
from isojax.training.state import init_state


def types(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


VARIANTS = [
    {"optimizer": "sgd"},
    {"optimizer": "lars"},
    {"optimizer": "adamw"},
    {"predictor": "mlp", "form": "standard"},
    {"predictor": "linear", "form": "standard", "target": "online"},
    {"microbatches": 2},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_step_keeps_the_types_of_the_state(tiny_run, batch, variant, x64):
    run = tiny_run(**variant)
    for state in (run.state, jax.eval_shape(run.step, run.state, batch)[0]):
        found = {str(dtype) for dtype in jax.tree.leaves(types(state))}
        assert found == {"float32", "int32", "key<fry>"}


@pytest.mark.parametrize(
    "module", [digits, pytest.param(cifar10, marks=pytest.mark.long)]
)
def test_views_are_equal_bit_for_bit(module):
    config = module.get_config()
    channels = len(config.data.mean)
    images = np.arange(2 * 64 * channels, dtype=np.uint8).reshape(2, 8, 8, channels)
    results = []
    for enabled in (False, True):
        with jax.enable_x64(enabled):
            views = jax.jit(
                lambda key, images: random_views(
                    jax.random.split(key, 2),
                    images,
                    views=view_settings(config.augment),
                    mean=config.data.mean,
                    std=config.data.std,
                )
            )(jax.random.key(0), images)
            assert views.dtype == jnp.float32
            results.append(np.asarray(views))
    np.testing.assert_array_equal(*results)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Run folders with a checkpoint, written without and with x64."""
    config = ConfigDict(digits.get_config().to_dict())
    config.model.update(width=2, hidden_dim=8, projection_dim=4)
    folders = {}
    for enabled in (False, True):
        folder = tmp_path_factory.mktemp("run")
        with jax.enable_x64(enabled):
            network = build_network(network_settings(config))
            state = init_state(
                network,
                optax.sgd(0.1, momentum=0.9),
                seed=0,
                image_shape=(28, 28, 1),
                num_classes=10,
                ema=True,
            )
            save_config(folder, config)
            with Checkpoints(folder) as checkpoints:
                checkpoints.save(state)
        folders[enabled] = folder, state
    return folders


def encoder_of(state):
    return {
        "params": state.params["backbone"],
        "batch_stats": state.batch_stats["backbone"],
    }


@pytest.mark.parametrize("read_with", [False, True])
@pytest.mark.parametrize("written_with", [False, True])
@pytest.mark.long
def test_a_run_is_read_whatever_the_flag(folders, written_with, read_with):
    folder, state = folders[written_with]
    with jax.enable_x64(read_with):
        apply, variables = load_encoder(folder)
        images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.uint8)
        assert jax.eval_shape(apply, variables, images).dtype == jnp.float32
    chex.assert_trees_all_equal(variables, encoder_of(state))


@pytest.mark.long
def test_the_random_encoder_is_the_same_with_either_flag(folders, x64):
    """As it was before the first step of a run without the flag."""
    folder, state = folders[False]
    _, variables = random_encoder(folder)
    chex.assert_trees_all_equal(variables, encoder_of(state))


@pytest.mark.parametrize("enabled", [False, True])
def test_arrays_of_another_width_are_cast_when_read(tmp_path, make_state, enabled):
    """As earlier versions wrote them with x64."""
    state = make_state(1)
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == "float32" else leaf,
            state,
        )
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(wide)
    assert types(wide) != types(state)
    with jax.enable_x64(enabled):
        restored = checkpoints.restore(state)
    assert types(restored) == types(state)
    chex.assert_trees_all_equal(restored.params, state.params)


def test_another_kind_of_type_is_refused(tmp_path, make_state):
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
    like = state.replace(correlation=state.correlation.astype(int))
    with pytest.raises(UsageError, match="correlation is .* float32 .* int32"):
        checkpoints.restore(like)
