"""Precision of every convolution and matrix product on GPUs and TPUs.

There, the default rounds the factors of float32 products to 10 bits or fewer. The
network takes the default, and everything else takes full float32. On the CPU this makes
no difference, so the tests read the programs for the other platforms instead.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax import data_parallel, spectral
from isojax.configs import cifar10, digits
from isojax.dynamics import ntk_velocity, simulate_network
from isojax.evaluation import finetuning, knn, linear
from isojax.models import BACKBONES
from isojax.models.backbones import build_backbone
from isojax.predictor import direct_predictor, update_correlation
from isojax.training import monitor
from isojax.training.method import closed_form_predictions
from isojax.training.probe import probe_loss
from isojax.training.settings import method_settings
from isojax.training.step import train_step
from tests.training.tiny_network import (
    SIDE,
    TinyBackbone,
    make_context,
    make_first_state,
    make_network,
)

PLATFORMS = ("cuda", "tpu")
MATRIX, ROWS = jnp.eye(3), jnp.ones((4, 3))
LABELS = jnp.zeros(4, jnp.int32)
METHOD = method_settings(digits.get_config())
_PRODUCT = re.compile(r'= "?stablehlo\.(?:dot_general|convolution|dot)\b')
_PRECISION = re.compile(r"precision(?:_config)? = \[([^\]]*)\]")
_NUMBER = re.compile(r"loc\(#loc(\d+)\)$")
_PLACE = re.compile(r'^#loc(\d+) = loc\("([^"]*)"', re.MULTILINE)
# Places of the network's products: backbone, projector and MLP predictor.
_NETWORK = re.compile(
    r"\b(backbone/|TinyBackbone\b|projector/|predictor/(hidden|output)/)"
)


def products(function, *arguments):
    """Returns place and precision of every product in the program for `PLATFORMS`."""
    traced = jax.jit(function).trace(*arguments)
    text = traced.lower(lowering_platforms=PLATFORMS).as_text(debug_info=True)
    places = dict(_PLACE.findall(text))
    return [
        (
            places[_NUMBER.search(line)[1]],
            set(re.findall("[A-Z]{4,}", _PRECISION.search(line)[1])),
        )
        for line in text.splitlines()
        if _PRODUCT.search(line)
    ]


def assert_network_alone_has_the_default(found, expected):
    """Checks the precision of each product, and that `expected` places occur."""
    for place, precision in found:
        default = _NETWORK.search(place)
        assert precision == {"DEFAULT" if default else "HIGHEST"}, place
    for text in expected:
        assert any(text in place for place, _ in found), text


def network(predictor_from):
    return partial(
        simulate_network,
        "cosine",
        steps=2,
        learning_rate=0.1,
        samples=4,
        predictor_from=predictor_from,
        key=jax.random.key(0),
    )


PROGRAMS = {
    "update_correlation": (
        lambda c, z: update_correlation(c, z, decay=0.5),
        (MATRIX, ROWS),
    ),
    "direct_predictor": (direct_predictor, (MATRIX,)),
    "closed_form_predictions": (
        lambda c, z: closed_form_predictions(METHOD, c, [z]),
        (MATRIX, ROWS),
    ),
    "eigenvector_alignment": (spectral.eigenvector_alignment, (MATRIX, MATRIX)),
    "probe": (
        jax.grad(lambda w: probe_loss(w, ROWS, LABELS, count=jnp.float32(4))[0]),
        (jnp.ones((4, 2)),),
    ),
    "linear_readout": (
        # Mapped, because the function takes the number of devices from the axis.
        jax.vmap(
            linear._value_and_gradient.function,
            in_axes=None,
            out_axes=None,
            axis_name=data_parallel.AXIS,
            axis_size=1,
        ),
        (
            {
                "coordinates": jnp.ones((3, 2)),
                "transform": MATRIX,
                "penalty": 0.1,
                "count": 4.0,
            },
            {"inputs": ROWS, "labels": LABELS},
        ),
    ),
    "gram": (linear._scaled_products.function, (1.0, {"inputs": ROWS})),
    "nearest_neighbours": (
        knn._merge_block.function,
        ((ROWS, 0, 4), (ROWS[:, :2], jnp.zeros((4, 2), int), ROWS)),
    ),
    "ntk_velocity": (ntk_velocity, (jnp.ones((2, 4, 3, 3)), ROWS)),
    "network_by_weights": (network("weights"), (MATRIX,)),
    "network_by_activations": (network("activations"), (MATRIX,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_products_have_the_highest_precision(name):
    function, arguments = PROGRAMS[name]
    found = products(function, *arguments)
    assert found
    for place, precision in found:
        assert precision == {"HIGHEST"}, place


def tiny_context(base, **fields):
    config = ConfigDict(base.to_dict())
    config.optimizer.warmup_epochs = 0.0
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in fields.items()}
    )
    return make_context(config, make_network(config.method.predictor, None))


@pytest.mark.parametrize(
    ("base", "fields", "expected"),
    [
        (
            digits.get_config("isoloss"),
            {},
            # Affine views, then correlation, predictor and probe.
            ["vmap(ij,jhw->ihw)/", "train_step)/jvp()/", "/backbone/", "/projector/"],
        ),
        (
            digits.get_config("isoloss"),
            {"microbatches": 2},
            ["/backbone/", "/projector/"],
        ),
        (
            digits.get_config("byol"),
            {"method__predictor": "linear"},
            ["jvp(SiameseNetwork.predict)/predictor/map/"],
        ),
        (
            cifar10.get_config("byol"),
            {},
            ["predictor/hidden/", "predictor/output/", "train_step)/jvp()/"],
        ),
    ],
    ids=["closed form", "microbatches", "linear", "MLP"],
)
def test_the_network_alone_has_the_default_precision(base, fields, expected):
    context = tiny_context(base, **fields)
    channels = len(base.data.mean)
    state = jax.eval_shape(lambda: make_first_state(context, channels))
    batch = {
        "images": np.zeros((8, SIDE, SIDE, channels), np.uint8),
        "labels": np.zeros(8, np.int32),
        "indices": np.arange(8, dtype=np.int32),
    }
    found = products(partial(train_step, context), state, batch)
    assert_network_alone_has_the_default(found, expected)


def test_an_epoch_s_evaluation_keeps_the_network_s_precision(monkeypatch):
    captured = []
    monkeypatch.setattr(data_parallel, "MappedFunction", captured.append)
    context = tiny_context(digits.get_config())
    monitor.make_evaluation(context.network, mean=(0.5,), std=(0.5,))
    state = jax.eval_shape(lambda: make_first_state(context))
    variables = state.params, state.batch_stats, state.probe.weights
    found = products(captured[0], variables, np.zeros((4, SIDE, SIDE, 1), np.uint8))
    assert_network_alone_has_the_default(found, ["backbone/", "evaluate_batch)/dot"])


def test_fine_tuning_keeps_the_network_s_precision(monkeypatch):
    monkeypatch.setattr(data_parallel, "MappedStep", lambda step, devices: step)
    monkeypatch.setattr(data_parallel, "axis_name", lambda devices: None)
    backbone = TinyBackbone()
    images = jnp.zeros((4, SIDE, SIDE, 1))
    train = finetuning._make_step(
        partial(finetuning._logits, backbone.apply),
        finetuning._geometry(digits.get_config().augment),
    )

    def step(batch):
        variables = backbone.init(jax.random.key(0), images)
        start = finetuning._with_head(backbone.apply, variables, images, 3)
        params, rest = start.pop("params"), start
        shared = {"rest": rest, "number": 0, "rate": 0.1, "count": 4.0}
        return train((params, finetuning._MOMENTUM.init(params)), batch, shared)

    batch = {
        "images": np.zeros((4, SIDE, SIDE, 1), np.uint8),
        "labels": np.zeros(4, np.int32),
        "indices": np.arange(4, dtype=np.int32),
    }
    found = products(step, batch)
    assert_network_alone_has_the_default(found, ["TinyBackbone", "jvp()/dot_general"])


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_have_the_default_precision(name):
    arguments = dict(width=8, kernel_size=3, stride=1, padding=1, max_pool=False)
    backbone = build_backbone(
        name, arguments | dict(patch_size=4, axis_name=None, dtype=None, remat=False)
    )
    images = jnp.zeros((2, 16, 16, 3))
    variables = jax.eval_shape(
        lambda: backbone.init(jax.random.key(0), images, train=False)
    )

    def loss(variables, images):
        return backbone.apply(variables, images, train=False).sum()

    found = products(jax.grad(loss), variables, images)
    assert len(found) > 30
    for place, precision in found:
        assert precision == {"DEFAULT"}, place
