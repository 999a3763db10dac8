import jax
import jax.numpy as jnp
import pytest

from configs import base, cifar10, cifar100, digits, stl10, tinyimagenet
from isojax.errors import UsageError
from isojax.models import build_network
from isojax.reporting import read_options
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
        "name": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 4e-4,
        "trust_coefficient": 0.02,
        "warmup_epochs": 10.0,
        "warmup_start": 0.0,
    }
    assert config.method.loss_scale == 1.0
    assert config.batch_size == 512
    assert config.method.alpha == 0.5
    assert config.method.correlation_decay == 0.3
    assert config.method.target_decay == 0.996
    assert not config.method.normalize


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no preset 'moco'; choose one of byol"):
        base.get_config("moco")


# Resolution, first kernel, its stride, first max-pool, blur, strength of colour jitter.
TABLE_3 = {
    cifar10: (32, 3, 1, False, 0.0, 0.5),
    cifar100: (32, 3, 1, False, 0.0, 0.5),
    stl10: (96, 7, 2, True, 0.5, 1.0),
    tinyimagenet: (64, 3, 1, True, 0.0, 0.5),
}


@pytest.mark.parametrize("dataset", TABLE_3, ids=lambda module: module.__name__)
def test_the_data_sets_have_the_paper_s_settings(dataset):
    config = dataset.get_config()
    resolution, kernel, stride, max_pool, blur, strength = TABLE_3[dataset]
    assert config.data.resolution == resolution
    assert config.model.to_dict() == base.get_config().model.to_dict() | {
        "kernel_size": kernel,
        "stride": stride,
        "max_pool": max_pool,
    }
    assert config.augment.blur_probability == blur
    deviations = ("brightness", "contrast", "saturation", "hue")
    assert [config.augment[name] for name in deviations] == pytest.approx(
        [0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength]
    )
    assert config.augment_view2.solarize_probability == 0.0
    assert (config.epochs, config.batch_size) == (1000, 512)
    assert len(config.data.mean) == len(config.data.std) == 3
    assert config.is_locked


@pytest.mark.parametrize("dataset", TABLE_3, ids=lambda module: module.__name__)
@pytest.mark.parametrize("preset", ["official", "official_byol", "isoloss_noema"])
def test_the_data_sets_presets_are_valid(dataset, preset):
    config = dataset.get_config(preset)
    check_config(config)
    network = build_network(config.model, predictor=config.method.predictor)
    side = config.data.resolution
    shapes = jax.eval_shape(
        lambda: network.init_with_output(
            jax.random.key(0), jnp.zeros((2, side, side, 3)), method="initialize"
        )[0]
    )
    assert shapes.shape == (2, 256)


@pytest.mark.parametrize(
    ("preset", "optimizer", "rate", "weight_decay", "correlation_decay"),
    [
        ("official", "lars", 1.0, 1e-4, 0.998),
        ("official_directpred_noema", "sgd", 0.1, 1e-4, 0.5),
        ("official_byol", "lars", 1.0, 1e-5, 0.998),
    ],
)
def test_the_official_recipe(preset, optimizer, rate, weight_decay, correlation_decay):
    config = cifar10.get_config(preset)
    assert config.batch_size == 256
    assert config.optimizer.name == optimizer
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.weight_decay == weight_decay
    assert config.optimizer.trust_coefficient == 0.02
    assert config.optimizer.warmup_start == 3e-5
    assert config.method.correlation_decay == correlation_decay
    assert config.method.target_decay == 0.99
    assert config.method.normalize
    assert config.method.loss_scale == 2.0
    assert config.augment.solarize_probability == 0.0
    assert config.augment_view2.solarize_probability == 0.2


def test_the_digits_have_no_official_recipe():
    with pytest.raises(UsageError, match="no preset 'official' for the digits"):
        digits.get_config("official")


def test_checkpoints_that_are_never_written_cannot_be_kept():
    config = digits.get_config().unlock()
    config.checkpoint.keep_every_epochs = 25
    with pytest.raises(UsageError, match="keep_every_epochs=25: set it to a multiple"):
        check_config(config)
    config.checkpoint_every_epochs = 5
    check_config(config)


def test_an_old_config_is_logged_as_a_new_one():
    config = base.get_config()
    assert read_options(config) == read_options({})
    check_config(digits.get_config())
    other = digits.get_config().unlock()
    other.logging.wandb = "yes"
    with pytest.raises(UsageError, match="logging.wandb=yes: choose one of off, onli"):
        check_config(other)
