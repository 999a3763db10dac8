"""Runs with a backbone of one's own, and with a vision transformer."""

import json
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from isojax.configs import digits
from isojax.data import from_arrays
from isojax.errors import UsageError
from isojax.evaluation import Options, evaluate_run
from isojax.evaluation.protocols import PROTOCOLS
from isojax.models import BACKBONES, ViT
from isojax.reporting.html_report import write_report
from isojax.runs.config_file import load_config
from isojax.training import load_encoder, pretrain, random_encoder
from isojax.training.backbone import check_stored_backbone, with_own_backbone

SIDE = 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (104, SIDE, SIDE, 1), dtype=np.uint8)
DATASET = from_arrays(
    IMAGES[:64],
    np.arange(64) % 3,
    test_images=IMAGES[64:],
    test_labels=np.arange(40) % 3,
)


class ConvNet(nn.Module):
    width: int = 4
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(self.width, (3, 3), strides=2)(images)
        x = nn.BatchNorm(not train, axis_name=self.axis_name)(x)
        return nn.relu(x).mean(axis=(1, 2))


class FeatureMap(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Conv(3, (3, 3))(images)


def small_config(**model):
    config = digits.get_config().unlock()
    config.update(epochs=2, batch_size=32, checkpoint_every_epochs=1)
    config.model.update({"hidden_dim": 8, "projection_dim": 6} | model)
    config.optimizer.update(name="adamw", learning_rate=1e-3, warmup_epochs=0.0)
    return config


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "own"
    return pretrain(small_config(), workdir, dataset=DATASET, backbone=ConvNet())


@pytest.fixture(scope="module")
def vit_run(tmp_path_factory):
    """A run whose backbone has no BatchNorm and belongs to one size of images."""
    small = partial(ViT, dim=12, depth=2, heads=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "vit_test", small)
        config = small_config(backbone="vit_test", patch_size=4)
        workdir = tmp_path_factory.mktemp("runs") / "vit"
        yield pretrain(config, workdir, dataset=DATASET)


def rows_of(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.long
def test_an_own_backbone_is_trained_and_loaded(own_run):
    assert load_config(own_run).model.backbone == "ConvNet(width=4)"
    assert all(np.isfinite(row["train/loss"]) for row in rows_of(own_run))
    apply, variables = load_encoder(own_run, backbone=ConvNet())
    _, before = random_encoder(own_run, backbone=ConvNet())
    assert set(variables) == {"params", "batch_stats"}
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, variables, before)
    kernels = moved["params"]["Conv_0"]["kernel"], moved["batch_stats"]
    assert jax.tree.all(kernels)
    features = apply(variables, IMAGES[:5])
    assert features.shape == (5, 4) and features.std() > 0


@pytest.mark.parametrize(
    ("run", "protocols"),
    [
        pytest.param("own_run", tuple(PROTOCOLS), marks=pytest.mark.long),
        pytest.param("vit_run", ("linear",), marks=pytest.mark.long),
        pytest.param("vit_run", ("finetune",), marks=pytest.mark.slow),
    ],
)
def test_evaluation_and_report_take_the_backbone(run, protocols, request):
    workdir = request.getfixturevalue(run)
    own = {"backbone": ConvNet()} if run == "own_run" else {}
    options = Options(protocols=protocols)
    result = evaluate_run(workdir, dataset=DATASET, options=options, **own)
    names = {"linear": "accuracy", "finetune": "finetune_accuracy"}
    for name in names.keys() & set(protocols):
        assert 0 <= result[names[name]] <= 1
    text = write_report([workdir]).read_text()
    expected = "ConvNet(width=4)" if own else "ViT-Test with patches of side 4"
    assert expected in text


@pytest.mark.long
def test_the_same_backbone_resumes_the_run(own_run, capsys):
    pretrain(small_config(), own_run, dataset=DATASET, backbone=ConvNet())
    assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backbone", "current"), [(None, "resnet18"), (ConvNet(5), r"ConvNet\(width=5\)")]
)
@pytest.mark.long
def test_another_backbone_does_not_resume_or_load_the_run(own_run, backbone, current):
    message = rf"model.backbone \(stored ConvNet\(width=4\), current {current}\)"
    with pytest.raises(UsageError, match=message):
        pretrain(small_config(), own_run, dataset=DATASET, backbone=backbone)
    with pytest.raises(UsageError, match=r"ConvNet\(width=4\).* backbone="):
        load_encoder(own_run, backbone=backbone)
    with pytest.raises(UsageError, match=r"ConvNet\(width=4\).* backbone="):
        evaluate_run(own_run, dataset=DATASET, backbone=backbone)


def test_a_module_for_a_run_with_another_kind_of_backbone_is_refused():
    with pytest.raises(UsageError, match="resnet18, not ConvNet.*leave out backbone="):
        check_stored_backbone("run", small_config(), ConvNet())


def test_a_config_that_describes_a_module_needs_it():
    config = with_own_backbone(small_config(), ConvNet())
    with pytest.raises(UsageError, match=r"ConvNet\(width=4\) .*backbone= to pretrain"):
        with_own_backbone(config, None)


@pytest.mark.parametrize(
    ("fields", "backbone", "message"),
    [
        ({}, FeatureMap(), "FeatureMap returns a feature map"),
        ({"remat": True}, ConvNet(), "config.remat=True has no effect"),
        ({}, "resnet50", "flax.linen.Module"),
    ],
)
def test_a_bad_backbone_is_refused_before_the_folder_is_made(
    tmp_path, fields, backbone, message
):
    config = small_config()
    config.update(fields)
    with pytest.raises(UsageError, match=message):
        pretrain(config, tmp_path / "run", dataset=DATASET, backbone=backbone)
    assert not (tmp_path / "run").exists()


def test_patches_that_do_not_fill_the_images_are_refused(tmp_path):
    config = small_config(backbone="vit_tiny", patch_size=3)
    with pytest.raises(UsageError, match="patch_size=3 .*8×8 pixels; .* 2, 4"):
        pretrain(config, tmp_path / "run", dataset=DATASET)


@pytest.mark.long
def test_a_vision_transformer_loads_with_its_class_token(vit_run):
    apply, variables = load_encoder(vit_run)
    assert set(variables) == {"params"}
    features = apply(variables, IMAGES[:5])
    # The last layer normalisation is still near its identity.
    np.testing.assert_allclose(np.mean(features, axis=1), 0, atol=0.05)
    assert features.shape == (5, 12)
    with pytest.raises(UsageError, match="9 patches .* 4 patches"):
        apply(variables, np.zeros((1, 12, 12, 1), np.uint8))
