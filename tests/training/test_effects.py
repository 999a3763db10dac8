"""What `isojax.fields` says of a field is true of the computation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from isojax.configs import cifar10, digits
from isojax.fields import EFFECTS, no_effect_reason
from isojax.models import BACKBONES, build_network
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import (
    method_settings,
    network_settings,
    optimizer_settings,
    view_pair,
)
from isojax.training.step import make_views, train_step
from tests.training.tiny_network import make_context, make_first_state


def changed(base, changes):
    config = ConfigDict(base.to_dict())
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture
def program(tiny_network, batch):
    """`program(config)` gives the training step's text before it is compiled."""
    batch = {name: rows[:4] for name, rows in batch.items()}

    def lower(config):
        network = tiny_network(config.method.predictor, None)
        context = make_context(config, network)
        state = jax.eval_shape(lambda: make_first_state(context))
        return jax.jit(partial(train_step, context)).lower(state, batch).as_text()

    return lower


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "acting", "idle"),
    [
        ("method.alpha", 0.7, {}, {"method.predictor": "mlp"}),
        ("method.normalize", False, {}, {"method.predictor": "linear"}),
        ("method.epsilon", 0.3, {}, {"method.normalize": False}),
        ("method.target_decay", 0.7, {}, {"method.target": "online"}),
        ("optimizer.trust_coefficient", 0.7, {"optimizer.name": "lars"}, {}),
        ("optimizer.clip_trust_ratio", False, {"optimizer.name": "lars"}, {}),
    ],
)
def test_a_step_depends_on_a_field_where_the_table_says_so(
    program, field, value, acting, idle
):
    base = changed(
        digits.get_config("directpred"),
        {"optimizer.warmup_epochs": 0.5, "method.normalize": True},
    )
    for changes in (acting, idle):
        config = changed(base, changes)
        is_same = program(config) == program(changed(config, {field: value}))
        assert is_same == (no_effect_reason(config, field) is not None)
        assert is_same == (changes is idle)


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
def test_the_rate_depends_on_its_start_where_the_table_says_so(warmup_epochs):
    config = changed(digits.get_config(), {"optimizer.warmup_epochs": warmup_epochs})

    def rates(start):
        settings = optimizer_settings(config)._replace(warmup_start=start)
        _, rate = make_optimizer(settings, steps_per_epoch=4, epochs=3)
        return [float(rate(step)) for step in range(12)]

    idle = no_effect_reason(config, "optimizer.warmup_start") is not None
    assert (rates(0.0) == rates(0.07)) == idle == (warmup_epochs == 0)


@pytest.mark.parametrize("predictor", ["mlp", "directpred"])
def test_the_network_depends_on_the_predictor_s_width_where_the_table_says_so(
    predictor,
):
    config = changed(digits.get_config(), {"method.predictor": predictor})

    def shapes(width):
        settings = network_settings(config)._replace(predictor_hidden_dim=width)
        network = build_network(
            settings, predictor=method_settings(config).learned_predictor
        )
        return jax.eval_shape(
            lambda: network.init(
                jax.random.key(0), jnp.zeros((1, 8, 8, 1)), method="initialize"
            )
        )

    idle = no_effect_reason(config, "model.predictor_hidden_dim") is not None
    assert (shapes(8) == shapes(16)) == idle


BACKBONE_FIELDS = {
    "width": 8,
    "kernel_size": 5,
    "stride": 1,
    "padding": 2,
    "max_pool": False,
    "patch_size": 7,
}


@pytest.mark.parametrize("field", BACKBONE_FIELDS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbone_takes_a_field_where_the_table_says_so(backbone, field):
    config = changed(digits.get_config(), {"model.backbone": backbone})
    settings = network_settings(config)
    other = settings._replace(**{field: BACKBONE_FIELDS[field]})
    idle = no_effect_reason(config, f"model.{field}") is not None
    assert (build_network(settings) == build_network(other)) == idle


VIEWS = {
    "augment.brightness": (0.9, {}, {"augment.jitter_probability": 0.0}),
    "augment.contrast": (0.9, {}, {"augment.jitter_probability": 0.0}),
    "augment.saturation": (0.9, {}, {"augment.jitter_probability": 0.0}),
    "augment.hue": (0.4, {}, {"augment.jitter_probability": 0.0}),
    "augment.blur_sigma": ((1.0, 2.0), {"augment.blur_probability": 1.0}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("field", VIEWS)
def test_views_depend_on_a_field_where_the_table_says_so(field):
    value, acting, idle = VIEWS[field]
    compare_views(cifar10.get_config(), field, value, acting, idle, channels=3)


@pytest.mark.slow
def test_drawings_depend_on_the_crop_s_ratio_where_the_table_says_so():
    acting = {"augment.crop_scale": (0.2, 0.5)}
    base = digits.get_config()
    compare_views(base, "augment.crop_ratio", (0.2, 0.3), acting, {}, channels=1)


def compare_views(base, field, value, acting, idle, *, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, channels), dtype=np.uint8)
    batch = {"images": images, "indices": np.arange(4, dtype=np.int32)}

    def views(config):
        pair = view_pair(config)
        make = jax.jit(lambda key: make_views(key, batch, views=pair))
        return np.stack(make(jax.random.key(0)))

    for changes in (acting, idle):
        config = changed(base, changes)
        is_same = np.array_equal(views(config), views(changed(config, {field: value})))
        assert is_same == (no_effect_reason(config, field) is not None)
        assert is_same == (changes is idle)


def test_every_field_with_effects_is_tested_here():
    elsewhere = {"data.evaluation_split", "model.predictor_hidden_dim", "remat"}
    elsewhere |= {"data.name", "data.feed", "data.classes"}
    elsewhere |= {f"model.{name}" for name in BACKBONE_FIELDS}
    step = {"alpha", "normalize", "epsilon", "target_decay"}
    held = {f"method.{name}" for name in step} | set(VIEWS) | elsewhere
    held |= {"optimizer.trust_coefficient", "optimizer.clip_trust_ratio"}
    held.add("optimizer.warmup_start")
    assert set(EFFECTS) == held | {"augment.crop_ratio"}
