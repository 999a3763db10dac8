"""Exported weights are those of the run, and the card's lines load them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from isojax.configs import digits
from isojax.errors import UsageError
from isojax.interop import from_torchvision_state_dict
from isojax.interop.export_files import export_run
from isojax.interop.model_card import model_card
from isojax.models import build_network
from isojax.runs.config_file import save_config
from isojax.training import Trained, load_encoder
from isojax.training.backbone import with_own_backbone
from isojax.training.checkpoint import Checkpoints
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import (
    method_settings,
    network_settings,
    optimizer_settings,
)
from isojax.training.state import init_state

ROOT = Path(__file__).parent.parent
EVALUATION = {
    "step": 1234,
    "accuracy": 0.912,
    "knn_accuracy": {"20": 0.9},
    "random_init_accuracy": 0.5,
    "random_init_knn_accuracy": {"20": 0.4},
    "raw_pixel_accuracy": 0.6,
    "raw_pixel_knn_accuracy": {"20": 0.7},
    "split": "test",
    "num_train": 4000,
    "num_test": 1000,
}


class ConvNet(nn.Module):
    """A backbone that is not part of isojax, without BatchNorm."""

    width: int = 3

    @nn.compact
    def __call__(self, images, train):
        return nn.relu(nn.Conv(self.width, (3, 3))(images)).mean(axis=(1, 2))


def make_run(folder, *, own=None, **model):
    """Writes a run that was never trained; returns its folder and state."""
    config = ConfigDict(digits.get_config().to_dict())
    config.model.update({"width": 4, "hidden_dim": 8, "projection_dim": 6} | model)
    config = with_own_backbone(config, own)
    network = build_network(
        network_settings(config),
        predictor=method_settings(config).learned_predictor,
        backbone=own,
    )
    optimizer, _ = make_optimizer(
        optimizer_settings(config), steps_per_epoch=9, epochs=9
    )
    state = init_state(
        network, optimizer, seed=0, image_shape=(28, 28, 1), num_classes=10, ema=True
    )
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)).astype(np.float32)
    state = state.replace(
        step=jnp.int32(1234),
        correlation=jnp.asarray(root @ root.T),
        # Some mean and variance, not 0 and 1, that let features through.
        batch_stats=jax.tree.map(
            lambda a: a + jnp.asarray(rng.uniform(0, 0.1, a.shape), a.dtype),
            state.batch_stats,
        ),
    )
    save_config(folder, config)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state)
    return folder, state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that was never trained, and its state."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def vit_run(tmp_path_factory):
    model = {"backbone": "vit_tiny", "patch_size": 14}
    return make_run(tmp_path_factory.mktemp("vit_run"), **model)


@pytest.fixture
def changed_run(run, tmp_path):
    """`changed_run(section, **fields)` gives its folder with another config.

    The config has no version, as before configs had one.
    """

    def change(**sections):
        folder = shutil.copytree(run[0], tmp_path / "changed")
        config = json_config(folder)
        for section, fields in sections.items():
            config[section].update(fields)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return change


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)


def json_config(folder):
    """The fields in a folder's config.json, without the version of the format."""
    fields = json.loads((folder / "config.json").read_text())
    fields.pop("format_version", None)
    return fields


def code_of(card):
    return re.search("```python\n(.*?)```", card.read_text(), re.DOTALL).group(1)


@pytest.mark.parametrize("file_format", ["safetensors", "flax"])
def test_model_card_code_loads_the_networks(
    run, tmp_path, images, monkeypatch, file_format
):
    folder, state = run
    path, card = export_run(folder, file_format=file_format, output=tmp_path / "file")
    assert (path, card) == (tmp_path / "file", tmp_path / "file.md")
    names = run_card(card, images, monkeypatch)
    apply, variables = load_encoder(folder)
    np.testing.assert_allclose(names["features"], apply(variables, images), atol=1e-5)
    assert names["features"].std() > 0.1
    network = build_network(network_settings(ConfigDict(json_config(folder))))
    _, projection = network.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        jnp.asarray(names["images"]),
        train=False,
    )
    np.testing.assert_allclose(names["projection"], projection, atol=1e-5)
    # DirectPred as the demo has it: square roots of eigenvalues over the largest.
    predictor = names["weights"]["predictor"]
    expected = state.correlation / np.linalg.eigvalsh(state.correlation)[-1]
    np.testing.assert_allclose(predictor @ predictor, expected, atol=1e-5)
    np.testing.assert_allclose(
        names["prediction"], projection @ predictor, rtol=1e-5, atol=1e-5
    )


@pytest.mark.long
def test_the_card_of_a_vision_transformer_loads_it(
    vit_run, tmp_path, images, monkeypatch
):
    _, card = export_run(vit_run[0], file_format="flax", output=tmp_path / "file")
    assert "ViT-Tiny with patches of side 14" in card.read_text()
    assert "stem" not in card.read_text()
    names = run_card(card, images, monkeypatch)
    apply, variables = load_encoder(vit_run[0])
    np.testing.assert_allclose(names["features"], apply(variables, images), atol=1e-5)
    assert names["features"].shape == (3, 192) and names["features"].std() > 0.1


def test_the_card_of_an_own_backbone_loads_it(tmp_path, images, monkeypatch):
    folder, _ = make_run(tmp_path, own=ConvNet(5))
    with pytest.raises(UsageError, match=r"ConvNet\(width=5\).* backbone="):
        export_run(folder, file_format="safetensors")
    _, card = export_run(folder, file_format="safetensors", backbone=ConvNet(5))
    names = run_card(card, images, monkeypatch, ConvNet=ConvNet)
    apply, variables = load_encoder(folder, backbone=ConvNet(5))
    np.testing.assert_allclose(names["features"], apply(variables, images), atol=1e-5)
    assert names["features"].shape == (3, 5)


def run_card(card, images, monkeypatch, **names):
    """Runs the code of a model card beside its file; returns the names it defines."""
    monkeypatch.chdir(card.parent)
    names["images"] = (images - 0.1307) / np.float32(0.3081)
    exec(code_of(card), names)
    return names


@pytest.mark.parametrize(
    ("model", "file_format", "others"),
    [
        ({}, "timm", "safetensors, torchvision, flax"),
        ({"backbone": "vit_tiny"}, "torchvision", "safetensors, timm, flax"),
    ],
)
def test_a_format_without_names_for_the_backbone_is_refused(
    changed_run, model, file_format, others
):
    with pytest.raises(UsageError, match=f"--format={file_format} .*one of {others}"):
        export_run(changed_run(model=model), file_format=file_format)


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50"])
def test_the_card_loads_a_narrow_resnet_in_torchvision(
    backbone, tmp_path, images, monkeypatch
):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    folder, _ = make_run(tmp_path, backbone=backbone)
    _, card = export_run(folder, file_format="torchvision")
    check_torch_features(torch, card, folder, images, monkeypatch)


def test_the_card_loads_a_vision_transformer_in_timm(vit_run, images, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    _, card = export_run(vit_run[0], file_format="timm")
    check_torch_features(torch, card, vit_run[0], images, monkeypatch)


def check_torch_features(torch, card, folder, images, monkeypatch):
    monkeypatch.chdir(card.parent)
    normalised = (images - 0.1307) / np.float32(0.3081)
    names = {"images": torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())}
    exec(code_of(card), names)
    apply, variables = load_encoder(folder)
    found = names["features"].detach().numpy()
    np.testing.assert_allclose(found, apply(variables, images), rtol=1e-5, atol=1e-4)


def test_torchvisions_format_is_the_backbone_in_its_names(run, tmp_path):
    folder, _ = run
    path, _ = export_run(folder, file_format="torchvision")
    assert path == folder / "encoder-torchvision.safetensors"
    state_dict = load_file(path)
    assert state_dict["layer4.1.bn2.running_var"].shape == (32,)
    _, variables = load_encoder(folder)
    returned = from_torchvision_state_dict(state_dict)
    jax.tree.map(np.testing.assert_array_equal, returned, variables)


DIRECTCOPY = {"predictor": "directpred", "alpha": 1.0, "epsilon": 0.25}


@pytest.mark.parametrize(
    "method",
    [
        {"predictor": "mlp"},
        {"predictor": "none"},
        DIRECTCOPY | {"normalize": True},
    ],
)
def test_only_a_closed_form_predictor_is_exported(run, changed_run, method):
    folder = changed_run(method=method)
    path, card = export_run(folder, file_format="safetensors")
    tensors = load_file(path)
    parts = {name.split("/")[1] for name in tensors if "/" in name}
    assert parts == {"backbone", "projector"}
    has_predictor = method["predictor"].startswith("direct")
    assert ("predictor" in tensors) == has_predictor
    assert ("closed-form predictor W_P (6×6)" in card.read_text()) == has_predictor
    assert ("prediction = " in code_of(card)) == has_predictor
    if has_predictor:
        correlation = run[1].correlation
        expected = correlation / np.linalg.eigvalsh(correlation)[-1] + np.eye(6) / 4
        np.testing.assert_allclose(tensors["predictor"], expected, atol=1e-5)


def test_the_model_card_describes_the_run(changed_run):
    folder = changed_run()
    result = folder / "linear_eval.json"
    _, card = export_run(folder, file_format="torchvision")
    assert "Not measured" in card.read_text()
    result.write_text(json.dumps(EVALUATION))
    _, card = export_run(folder, file_format="torchvision")
    text = card.read_text()
    for told in (
        "ResNet-18 of width 4",
        "3×3 convolution of stride 2 and padding 1, a 3×3 max-pool of stride 2; not "
        "torchvision's own",
        "28×28 pixels, 1 channel |",
        "mean (0.1307) and std (0.3081)",
        "digits, split train",
        "1,234 steps",
        "isoloss: cosine metric",
        "0.912",
        "test images",
    ):
        assert told in text, told
    assert json.loads(re.search("```json\n(.*?)```", text, re.DOTALL).group(1)) == (
        json_config(folder)
    )
    result.write_text(json.dumps(EVALUATION | {"step": 1000}))
    _, card = export_run(folder, file_format="torchvision")
    assert "step 1,000" in card.read_text()
    assert "0.912" not in card.read_text()
    for foreign in ('{"accuracy": ', "[]", "null"):
        result.write_text(foreign)
        with pytest.raises(UsageError, match=f"{result} .*isojax evaluate"):
            export_run(folder, file_format="torchvision")


def test_an_unknown_format_is_refused(run):
    with pytest.raises(
        UsageError, match="'onnx'.*safetensors, torchvision, timm, flax"
    ):
        export_run(run[0], file_format="onnx")


def test_images_are_bytes_or_floats(run, images):
    apply, variables = load_encoder(run[0])
    expected = apply(variables, images)
    np.testing.assert_array_equal(apply(variables, images.astype(np.float64)), expected)
    with pytest.raises(ValueError, match="int64.*uint8"):
        apply(variables, (images * 255).astype(np.int64))


@pytest.mark.parametrize(
    ("stem", "present", "absent"),
    [
        (
            dict(kernel_size=3, stride=1, max_pool=False),
            ["Conv2d(3, 64, 3, stride=1, padding=1,", "network.maxpool =", "timm"],
            ["Narrow"],
        ),
        (
            dict(kernel_size=3, stride=1, max_pool=True),
            ["Conv2d(3, 64, 3, stride=1, padding=1,"],
            ["network.maxpool ="],
        ),
        (
            dict(kernel_size=7, stride=2, max_pool=True),
            ["network = torchvision.models.resnet18()"],
            ["network.conv1 =", "network.maxpool =", "not torchvision's own"],
        ),
        (
            dict(kernel_size=3, stride=1, padding=2, max_pool=False),
            ["Conv2d(3, 64, 3, stride=1, padding=2,", "stride 1 and padding 2, no"],
            [],
        ),
        (
            dict(kernel_size=7, stride=2, padding=2, max_pool=True),
            ["Conv2d(3, 64, 7, stride=2, padding=2,", "not torchvision's own"],
            [],
        ),
    ],
)
def test_the_card_changes_torchvisions_stem_where_it_differs(
    changed_run, stem, present, absent
):
    colour = dict(mean=[0.5] * 3, std=[0.25] * 3)
    folder = changed_run(model={"width": 64, **stem}, data=colour)
    kernel = np.zeros((512, 8))
    variables = {"params": {"projector": {"hidden": {"kernel": kernel}}}}
    trained = Trained(step=1, variables=variables, predictor=None)
    text = model_card(folder, trained, file_format="torchvision", file_name="name")
    assert all(part in text for part in present)
    assert not any(part in text for part in absent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=none"], "run in none"),
        (["--format=onnx"], "<safetensors|torchvision|timm|flax>"),
        (["--workdir={empty}"], "{empty}"),
        (["--workdir={run}", "--output={run}"], "--output={run} is not writable"),
    ],
)
def test_a_user_error_is_reported_in_one_line(run, tmp_path, arguments, message):
    (tmp_path / "config.json").write_text(json.dumps(json_config(run[0])))
    message, *arguments = (
        text.format(empty=tmp_path, run=run[0]) for text in (message, *arguments)
    )
    process = subprocess.run(
        [sys.executable, "-m", "isojax.export", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert message in process.stderr and process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1


def test_the_command_says_what_it_wrote(run, tmp_path):
    output = tmp_path / "new" / "weights.safetensors"
    process = subprocess.run(
        [sys.executable, "-m", "isojax.export"]
        + [f"--workdir={run[0]}", f"--output={output}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"Written to {output}, with the model card {output}.md\n"
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "weights.safetensors",
        "weights.safetensors.md",
    ]
