"""Prevents XLA from fusing parts of a computation."""

import functools
from collections.abc import Callable

import jax
from jax import Array
from jax.experimental.xla_metadata import set_xla_metadata


def stage(function: Callable[..., Array]) -> Callable[..., Array]:
    """Wraps a function so that its result is written to memory before it is used.

    XLA fuses a chain of passes over an image into the last one, and then recomputes the
    whole chain for every element that the last pass reads: ten times slower where each
    pass reads several elements. `jax.lax.optimization_barrier` prevents the fusion,
    except on the CPU, where XLA drops the barrier; a call that may not be inlined
    prevents it there.

    Args:
      function: function of arrays that returns an array.

    Returns:
      A function with the same arguments and results.
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
