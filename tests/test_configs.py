import jax
import jax.numpy as jnp
import pytest

from isojax.configs import (
    base,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    imagenet,
    imagenet100,
    stl10,
    tinyimagenet,
)
from isojax.data import load_dataset
from isojax.errors import UsageError
from isojax.models import build_network
from isojax.runs.config_file import flat_fields
from isojax.training.config import check_config
from isojax.training.metric_writers import read_options
from isojax.training.settings import (
    image_source,
    method_settings,
    network_settings,
)

PRESETS = [
    preset + suffix for preset in base.PRESETS for suffix in ("", "_ema", "_noema")
]

# The data sets with recipes of their own, for 28×28 grey images.
SMALL = (digits, fashion_mnist)


@pytest.mark.parametrize("dataset", SMALL, ids=lambda module: module.__name__)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_builds_a_network(preset, dataset):
    config = dataset.get_config(preset)
    check_config(config)
    assert config.is_locked
    network = build_network(
        network_settings(config), predictor=method_settings(config).learned_predictor
    )
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
        "clip_trust_ratio": True,
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
    with pytest.raises(UsageError, match="'moco'.* byol"):
        base.get_config("moco")


# Resolution, first kernel, its stride, first max-pool, blur, strength of colour jitter.
TABLE_3 = {
    cifar10: (32, 3, 1, False, 0.0, 0.5),
    cifar100: (32, 3, 1, False, 0.0, 0.5),
    stl10: (96, 7, 2, True, 0.5, 1.0),
    tinyimagenet: (64, 3, 1, True, 0.0, 0.5),
}
IMAGENETS = (imagenet, imagenet100)


@pytest.mark.parametrize("dataset", TABLE_3, ids=lambda module: module.__name__)
def test_the_data_sets_have_the_paper_s_settings(dataset):
    config = dataset.get_config()
    resolution, kernel, stride, max_pool, blur, strength = TABLE_3[dataset]
    assert config.data.resolution == resolution
    assert config.model.to_dict() == base.get_config().model.to_dict() | {
        "kernel_size": kernel,
        "stride": stride,
        "max_pool": max_pool,
        "patch_size": 4 if resolution == 32 else 8,
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


@pytest.mark.parametrize("dataset", IMAGENETS, ids=lambda module: module.__name__)
def test_imagenet_has_the_paper_s_optimiser_and_the_views_of_stl10(dataset):
    config, expected = dataset.get_config(), stl10.get_config()
    assert (config.epochs, config.batch_size, config.microbatches) == (100, 512, 1)
    assert config.optimizer.to_dict() == expected.optimizer.to_dict()
    assert config.method.to_dict() == expected.method.to_dict()
    assert config.augment.to_dict() == expected.augment.to_dict()
    assert config.augment_view2.to_dict() == expected.augment_view2.to_dict()
    assert config.model.to_dict() == expected.model.to_dict() | {
        "backbone": "resnet50",
        "patch_size": 16,
    }
    assert config.data.streaming and config.data.resolution == 224


@pytest.mark.parametrize("dataset", IMAGENETS, ids=lambda module: module.__name__)
def test_imagenet_needs_a_folder(dataset):
    with pytest.raises(UsageError, match="config.data.folder="):
        load_dataset(image_source(dataset.get_config().data))


@pytest.mark.parametrize(
    "dataset", [*TABLE_3, *IMAGENETS], ids=lambda module: module.__name__
)
@pytest.mark.parametrize("preset", ["official", "official_byol", "isoloss_noema"])
def test_the_data_sets_presets_are_valid(dataset, preset):
    config = dataset.get_config(preset)
    check_config(config)
    network = build_network(
        network_settings(config), predictor=method_settings(config).learned_predictor
    )
    side = config.data.resolution
    shapes = jax.eval_shape(
        lambda: network.init_with_output(
            jax.random.key(0), jnp.zeros((2, side, side, 3)), method="initialize"
        )[0]
    )
    assert shapes.shape == (2, 256)


# The configuration files of the authors' code, field by field.
OFFICIAL = {
    "seed": 0,
    "data.folder": "",
    "data.streaming": False,
    "data.classes": "",
    "model.backbone": "resnet18",
    "model.patch_size": 4,
    "epochs": 1000,
    "steps": 0,
    "batch_size": 256,
    "precision": "float32",
    "remat": False,
    "microbatches": 1,
    "checkpoint_every_epochs": 10,
    "evaluate_every_epochs": 1,
    "on_collapse": "warn",
    "checkpoint.keep_last": 2,
    "checkpoint.keep_every_epochs": 0,
    "logging.wandb": "off",
    "logging.tensorboard": "auto",
    "logging.tracked_modes": True,
    "logging.lidar": True,
    "method.target_decay": 0.99,
    "method.stop_gradient": True,
    "method.loss_scale": 2.0,
    "method.alpha": 0.5,
    "method.epsilon": 0.0,
    "method.normalize": True,
    "model.width": 64,
    "model.hidden_dim": 4096,
    "model.projection_dim": 256,
    "model.predictor_hidden_dim": 4096,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "optimizer.trust_coefficient": 0.02,
    "optimizer.clip_trust_ratio": True,
    "optimizer.warmup_epochs": 10.0,
    "optimizer.warmup_start": 3e-5,
    "data.validation_fraction": 0.0,
    "data.feed": "auto",
    "augment.kind": "simclr",
    "augment.crop_scale": [0.08, 1.0],
    "augment.crop_ratio": [3 / 4, 4 / 3],
    "augment.flip_probability": 0.5,
    "augment.jitter_probability": 0.8,
    "augment.brightness": 0.4,
    "augment.contrast": 0.4,
    "augment.saturation": 0.2,
    "augment.hue": 0.1,
    "augment.grayscale_probability": 0.2,
    "augment.blur_probability": 0.0,
    "augment.blur_sigma": [0.1, 2.0],
    "augment.solarize_probability": 0.0,
    "augment_view2.solarize_probability": 0.2,
}
SMALL_STEM = {
    "model.kernel_size": 3,
    "model.stride": 1,
    "model.padding": 2,
    "model.max_pool": False,
}
LARGE_STEM = {
    "model.kernel_size": 7,
    "model.stride": 2,
    "model.padding": None,  # 3
    "model.patch_size": 8,  # of vision transformers
    "model.max_pool": True,
}
OFFICIAL_DATA = {
    cifar10: SMALL_STEM
    | {
        "data.name": "cifar10",
        "data.resolution": 32,
        "data.pretrain_split": "train",
        "data.train_split": "train",
        "data.evaluation_split": "test",
        "data.mean": [0.4914, 0.4822, 0.4465],
        "data.std": [0.2470, 0.2435, 0.2616],
    },
    cifar100: SMALL_STEM
    | {
        "data.name": "cifar100",
        "data.resolution": 32,
        "data.pretrain_split": "train",
        "data.train_split": "train",
        "data.evaluation_split": "test",
        "data.mean": [0.5071, 0.4865, 0.4409],
        "data.std": [0.2673, 0.2564, 0.2762],
    },
    stl10: LARGE_STEM
    | {
        "data.name": "stl10",
        "data.resolution": 96,
        "data.pretrain_split": "train+unlabelled",
        "data.train_split": "train",
        "data.evaluation_split": "test",
        "data.mean": [0.4914, 0.4823, 0.4466],
        "data.std": [0.247, 0.243, 0.261],
        "augment.blur_probability": 1.0,
        "augment_view2.blur_probability": 0.1,
    },
    tinyimagenet: LARGE_STEM
    | {
        "data.name": "tiny_imagenet",
        "data.resolution": 64,
        "data.pretrain_split": "train",
        "data.train_split": "train",
        "data.evaluation_split": "validation",
        "data.mean": [0.485, 0.456, 0.406],
        "data.std": [0.229, 0.224, 0.225],
    },
}
IMAGENET = LARGE_STEM | {
    "model.backbone": "resnet50",
    "model.patch_size": 16,
    "data.name": "folder",
    "data.streaming": True,
    "data.resolution": 224,
    "data.pretrain_split": "train",
    "data.train_split": "train",
    "data.evaluation_split": "val",
    "data.mean": [0.485, 0.456, 0.406],
    "data.std": [0.229, 0.224, 0.225],
    "augment.blur_probability": 1.0,
    "augment_view2.blur_probability": 0.1,
    # 64 images on each of 4 devices, accumulated 16 times.
    "batch_size": 64 * 4 * 16,
    "microbatches": 16,
    "epochs": 100,
}
OFFICIAL_DATA |= {imagenet: IMAGENET, imagenet100: IMAGENET}
# With and without a moving average.
IMAGENET_OPTIMIZER = {
    "optimizer.name": "lars",
    "optimizer.learning_rate": 0.45 * 16,
    "optimizer.warmup_start": 3e-5 * 16,
    "optimizer.trust_coefficient": 0.001,
    "optimizer.clip_trust_ratio": False,
    "optimizer.weight_decay": 1e-5,
}
CLOSED_FORM = {"method.form": "standard", "method.predictor": "directpred"}
ISO = CLOSED_FORM | {"method.form": "iso"}
MLP = {
    "method.form": "standard",
    "method.predictor": "mlp",
    "optimizer.weight_decay": 1e-5,
}
COSINE, EUCLIDEAN = {"method.metric": "cosine"}, {"method.metric": "euclidean"}
DIRECTCOPY = CLOSED_FORM | {"method.alpha": 1.0, "method.epsilon": 0.25}
OFFICIAL_METHODS = {
    "byol": COSINE | MLP,
    "simsiam": COSINE | MLP,
    "directpred": COSINE | CLOSED_FORM,
    "directcopy": COSINE | DIRECTCOPY,
    "isoloss": COSINE | ISO,
    "isoloss_euclidean": EUCLIDEAN | ISO,
}
WITH_EMA = {
    "method.target": "ema",
    "method.correlation_decay": 0.998,
    "optimizer.name": "lars",
    "optimizer.learning_rate": 1.0,
}
WITHOUT_EMA = {
    "method.target": "online",
    "method.correlation_decay": 0.5,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
}


@pytest.mark.parametrize("dataset", OFFICIAL_DATA, ids=lambda module: module.__name__)
@pytest.mark.parametrize("ending", ["_ema", "_noema", ""])
@pytest.mark.parametrize("method", OFFICIAL_METHODS)
def test_every_field_of_the_official_recipe(dataset, method, ending):
    preset = f"official_{method}{ending}"
    is_online = ending == "_noema" or (method == "simsiam" and not ending)
    expected = (
        OFFICIAL
        | OFFICIAL_DATA[dataset]
        | OFFICIAL_METHODS[method]
        | (WITHOUT_EMA if is_online else WITH_EMA)
        | (IMAGENET_OPTIMIZER if dataset in IMAGENETS else {})
        | {"preset": preset}
    )
    config = dataset.get_config(preset)
    check_config(config)
    assert flat_fields(config) == expected


def test_official_alone_is_isoloss():
    for dataset in OFFICIAL_DATA:
        fields = flat_fields(dataset.get_config("official"))
        full_name = flat_fields(dataset.get_config("official_isoloss"))
        assert fields | {"preset": "official_isoloss"} == full_name


@pytest.mark.parametrize(
    ("dataset", "name"), [(digits, "digits"), (fashion_mnist, "Fashion-MNIST")]
)
def test_the_small_sets_have_no_official_recipe(dataset, name):
    with pytest.raises(UsageError, match=f"'official' .*{name}; .* cifar10"):
        dataset.get_config("official")


def test_checkpoints_that_are_never_written_cannot_be_kept():
    config = digits.get_config().unlock()
    config.checkpoint.keep_every_epochs = 25
    with pytest.raises(UsageError, match="keep_every_epochs=25"):
        check_config(config)
    config.checkpoint_every_epochs = 5
    check_config(config)


def test_an_old_config_is_logged_as_a_new_one():
    config = base.get_config()
    assert read_options(config) == read_options({})
    check_config(digits.get_config())
    other = digits.get_config().unlock()
    other.logging.wandb = "yes"
    with pytest.raises(UsageError, match="logging.wandb=yes: .*off, online"):
        check_config(other)
