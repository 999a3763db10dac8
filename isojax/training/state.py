"""The state of a run: everything that a step passes to the next one."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from isojax.models import SiameseNetwork
from isojax.training.probe import Probe, init_probe

# Parts of the network that the target has; only the online network has a predictor.
TARGET_PARTS = ("backbone", "projector")


class TrainState(flax.struct.PyTreeNode):
    """State of a run, the same on every device.

    Its types do not depend on `jax_enable_x64`: floating-point arrays are float32.

    Attributes:
      step: number of optimiser steps done, scalar int32.
      params: online parameters.
      batch_stats: running statistics of the online network.
      target_params: moving average of the online backbone's and projector's parameters;
        empty if the target is the online network.
      opt_state: state of the optimiser.
      correlation: uncentred correlation of the projections, (dim, dim) float32.
      probe: the online probe.
      key: random key of the run.
    """

    step: Array
    params: Any
    batch_stats: Any
    target_params: Any
    opt_state: optax.OptState
    correlation: Array
    probe: Probe
    key: Array


def random_key(seed: int) -> Array:
    """Returns the random key of a run, different for every seed below 2**64.

    `jax.random.key` uses 32 bits of a seed, or 64 with 64-bit types enabled. This
    function always uses 64; the keys of seeds below 2**32 are the same.

    Args:
      seed: at least 0, below 2**64.

    Returns:
      A typed key of the threefry generator.
    """
    words = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def init_variables(
    network: SiameseNetwork, key: Array, image_shape: tuple[int, int, int]
) -> dict:
    """Initialises `params` and `batch_stats` of the whole network.

    Args:
      network: the module.
      key: random key. The same key gives the same values in a run and in evaluation.
      image_shape: (h, w, c) of the images.

    Returns:
      The variables.
    """
    images = jnp.zeros((1, *image_shape), jnp.float32)
    initialize = jax.jit(lambda k, x: network.init(k, x, method="initialize"))
    return initialize(key, images)


def init_state(
    network: SiameseNetwork,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    ema: bool,
) -> TrainState:
    """Returns the state before the first step.

    The target equals the online network, and the correlation is zero.

    Args:
      network: the module.
      optimizer: gradient transformation of the parameters.
      seed: seed of parameters and views, at least 0, below 2**64.
      image_shape: (h, w, c) of the images.
      num_classes: number of classes of the online probe.
      ema: whether the target is a moving average.

    Returns:
      The state.
    """
    key = random_key(seed)
    variables = init_variables(network, key, image_shape)
    params = variables["params"]
    # Copied, because the step donates its state and an array can be donated only once.
    target_params = {part: params[part] for part in TARGET_PARTS} if ema else {}
    representation, projection = jax.eval_shape(
        lambda: network.apply(
            variables, jnp.zeros((1, *image_shape), jnp.float32), train=False
        )
    )
    dim = projection.shape[-1]
    # One program, because on a GPU each operation alone takes 0.05 s to compile.
    target_params, opt_state = jax.jit(
        lambda target, params: (jax.tree.map(jnp.copy, target), optimizer.init(params))
    )(target_params, params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        target_params=target_params,
        opt_state=opt_state,
        correlation=jnp.zeros((dim, dim), jnp.float32),
        probe=init_probe(representation.shape[-1], num_classes),
        key=key,
    )
