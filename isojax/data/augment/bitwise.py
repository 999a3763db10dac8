"""Larger, smaller and clipped float32 numbers, by comparing their bits.

Floats compare as their bits do, unless both are negative. The comparison of integers is
one instruction of a processor; that of floats has to mind NaN and takes five, and a
select takes more still. All arrays here are float32, and of two numbers that are
compared one at least is not negative.
"""

import jax
import jax.numpy as jnp
from jax import Array


def larger(x: Array, y: Array | float) -> Array:
    """The larger of two numbers."""
    return _float(jnp.maximum(_bits(x), _bits(y)))


def smaller(x: Array, y: Array | float) -> Array:
    """The smaller of two numbers."""
    return _float(jnp.minimum(_bits(x), _bits(y)))


def clip(x: Array) -> Array:
    """Clips to [0, 1]."""
    return smaller(larger(x, 0.0), 1.0)


def flip_sign(x: Array, sign: Array) -> Array:
    """Changes the sign of `x` where `sign` is negative; both may be."""
    sign_bit = jnp.iinfo(jnp.int32).min
    return _float(_bits(x) ^ (_bits(sign) & sign_bit))


def _bits(x: Array | float) -> Array:
    return jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)


def _float(bits: Array) -> Array:
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
