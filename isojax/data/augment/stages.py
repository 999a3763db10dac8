"""Stages of a computation that the CPU compiler keeps apart."""

import functools
from collections.abc import Callable

import jax
from jax import Array
from jax.experimental.xla_metadata import set_xla_metadata


def stage(function: Callable[..., Array]) -> Callable[..., Array]:
    """Makes the result of a function of arrays stand in memory before it is used.

    XLA's CPU compiler fuses a chain of passes over an image into its last one and
    computes the whole chain anew for every element that this reads: ten times slower
    where each pass reads several. It drops `jax.lax.optimization_barrier`, but
    leaves alone a call that may not be inlined. Other backends fuse as they like.

    Args:
      function: of arrays alone, returning an array.

    Returns:
      A function that computes the same.
    """
    jitted = jax.jit(function)

    def kept_apart(*arrays: Array) -> Array:
        with set_xla_metadata(inlineable="false"):
            return jitted(*arrays)

    @functools.wraps(function)
    def call(*arrays: Array) -> Array:
        return jax.lax.platform_dependent(*arrays, cpu=kept_apart, default=function)

    return call
