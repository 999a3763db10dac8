"""A network small enough to compile in a second, and batches for it."""

from functools import partial
from types import MappingProxyType, SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from isojax import parallel
from isojax.configs import digits
from isojax.models import MLP, BatchNorm, LinearMap, SiameseNetwork
from isojax.models.convolution import Conv
from isojax.training.feeding import with_resident_images
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import (
    method_settings,
    optimizer_settings,
    view_pair,
)
from isojax.training.state import init_state
from isojax.training.step import StepContext, train_step

SIDE, DIM, TOTAL_STEPS = 8, 6, 40


class TinyBackbone(nn.Module):
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images, train=False):
        x = Conv(16, 3, 2, dtype=self.dtype)(images)
        x = nn.relu(BatchNorm(axis_name=self.axis_name)(x, train))
        return x.astype(jnp.float32).mean(axis=(1, 2))


def make_network(predictor, axis_name, dtype=None):
    mlp = partial(MLP, dim=DIM, axis_name=axis_name, dtype=dtype)
    learned = {"mlp": mlp(8), "linear": LinearMap(DIM)}
    return SiameseNetwork(
        TinyBackbone(axis_name, dtype), mlp(12), learned.get(predictor)
    )


def make_context(config, network, axis_name=None):
    """The step's context for a config with another network."""
    optimizer, learning_rate = make_optimizer(
        optimizer_settings(config), steps_per_epoch=TOTAL_STEPS, epochs=1
    )
    return StepContext(
        network=network,
        optimizer=optimizer,
        learning_rate=learning_rate,
        method=method_settings(config),
        views=view_pair(config),
        total_steps=TOTAL_STEPS,
        microbatches=config.microbatches,
        axis_name=axis_name,
    )


def make_first_state(context):
    return init_state(
        context.network,
        context.optimizer,
        seed=0,
        image_shape=(SIDE, SIDE, 1),
        num_classes=3,
        ema=context.method.has_moving_target,
    )


@pytest.fixture(scope="session")
def tiny_network():
    """`tiny_network(predictor, axis_name)` gives the module."""
    return make_network


@pytest.fixture
def tiny_run():
    """`tiny_run(**fields)` gives the config, first state and unmapped step of a run."""

    def make(
        axis_name=None,
        optimizer="sgd",
        microbatches=1,
        precision=None,
        optimizer_fields=MappingProxyType({}),
        **method,
    ):
        config = ConfigDict(digits.get_config().to_dict())
        config.method.update(method)
        config.microbatches = microbatches
        network = make_network(config.method.predictor, axis_name, precision)
        config.optimizer.update(name=optimizer, warmup_epochs=0.0, **optimizer_fields)
        context = make_context(config, network, axis_name)
        return SimpleNamespace(
            config=config,
            network=network,
            context=context,
            step=partial(train_step, context),
            state=make_first_state(context),
            total_steps=TOTAL_STEPS,
            axis_name=axis_name,
        )

    return make


@pytest.fixture
def spread_run(tiny_run):
    """The same, with its step mapped over all devices."""

    def make(**fields):
        run = tiny_run(axis_name=parallel.AXIS, **fields)
        mapped = parallel.MappedStep(with_resident_images(run.step))
        run.step = lambda state, batch: mapped(state, batch, {})[:2]
        run.state = parallel.replicate(run.state)
        return run

    return make


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (16, SIDE, SIDE, 1), dtype=np.uint8),
        "labels": rng.integers(0, 3, 16, dtype=np.int32),
        "indices": np.arange(16, dtype=np.int32),
    }
