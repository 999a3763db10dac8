"""Stages of a computation that the CPU compiler keeps apart."""

import functools
from collections.abc import Callable

import jax
from jax import Array
from jax.experimental.xla_metadata import set_xla_metadata


def stage(function: Callable[..., Array]) -> Callable[..., Array]:
    """Makes the result of a function of arrays stand in memory before it is used.

    Compilers fuse a chain of passes over an image into its last one, and then compute
    the whole chain anew for every element that this reads: ten times slower where each
    pass reads several. `jax.lax.optimization_barrier` prevents it, except on the CPU,
    where it is dropped; there a call that may not be inlined does.

    Args:
      function: of arrays alone, returning an array.

    Returns:
      A function that computes the same.
    """
    jitted = jax.jit(function)

    def kept_apart(*arrays: Array) -> Array:
        with set_xla_metadata(inlineable="false"):
            return jitted(*arrays)

    def behind_barrier(*arrays: Array) -> Array:
        return jax.lax.optimization_barrier(function(*arrays))

    @functools.wraps(function)
    def call(*arrays: Array) -> Array:
        return jax.lax.platform_dependent(
            *arrays, cpu=kept_apart, default=behind_barrier
        )

    return call
