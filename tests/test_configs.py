import jax
import jax.numpy as jnp
import pytest

from configs import base, digits
from isojax.errors import UsageError
from isojax.models import build_network
from isojax.training.config import check_config

PRESETS = [
    preset + suffix for preset in base.PRESETS for suffix in ("", "_ema", "_noema")
]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_builds_a_network(preset):
    config = digits.get_config(preset)
    check_config(config)
    assert config.is_locked
    network = build_network(config.model, predictor=config.method.predictor)
    variables = jax.eval_shape(
        lambda: network.init(
            jax.random.key(0), jnp.zeros((1, 28, 28, 1)), method="initialize"
        )
    )
    learned = config.method.predictor in ("mlp", "linear")
    assert ("predictor" in variables["params"]) == learned


def test_presets_choose_the_target_by_their_ending():
    def target(preset):
        return base.get_config(preset).method.target

    assert target("isoloss") == target("isoloss_ema") == "ema"
    assert target("isoloss_noema") == target("simsiam") == "online"
    assert target("simsiam_ema") == "ema"


def test_the_base_config_is_the_paper_s_recipe():
    config = base.get_config("directpred")
    assert config.optimizer.to_dict() == {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 4e-4,
        "warmup_epochs": 10.0,
    }
    assert config.batch_size == 512
    assert config.method.alpha == 0.5
    assert config.method.correlation_decay == 0.3
    assert config.method.target_decay == 0.996
    assert not config.method.normalize


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no preset 'moco'; choose one of byol"):
        base.get_config("moco")


def test_checkpoints_that_are_never_written_cannot_be_kept():
    config = digits.get_config().unlock()
    config.checkpoint.keep_every_epochs = 25
    with pytest.raises(UsageError, match="keep_every_epochs=25: set it to a multiple"):
        check_config(config)
    config.checkpoint_every_epochs = 5
    check_config(config)
