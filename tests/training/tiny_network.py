"""A network that compiles in a second, and the context of its step."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from isojax.models import MLP, BatchNorm, LinearMap, SiameseNetwork
from isojax.models.convolution import Conv
from isojax.training.optimizer import make_optimizer
from isojax.training.settings import (
    method_settings,
    optimizer_settings,
    view_pair,
)
from isojax.training.state import init_state
from isojax.training.step_context import StepContext

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
    """Returns a step's context for a config, with a given network."""
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


def make_first_state(context, channels=1):
    return init_state(
        context.network,
        context.optimizer,
        seed=0,
        image_shape=(SIDE, SIDE, channels),
        num_classes=3,
        ema=context.method.has_moving_target,
    )
