"""Counts the floating-point operations of a traced function."""

import math
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def count_operations(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Floating-point operations of matrix products and convolutions.

    The count depends on the traced function alone. On GPU and TPU, XLA's own cost
    analysis is not available before compilation, and after compilation it excludes the
    convolutions that cuDNN computes.

    Args:
      jaxpr: the traced function, as `jax.make_jaxpr` returns it. Inside a mapped
        function the shapes, and so the count, are those of one device.

    Returns:
      Two operations for each multiplication and addition. The padding of convolutions
      counts. Loops of unknown length count one pass, and of several branches the one
      with the most operations counts.
    """
    if isinstance(jaxpr, ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name in ("dot_general", "conv_general_dilated"):
        return 2 * _multiplications(equation)
    inner = [
        count_operations(value)
        for parameter in parameters.values()
        for value in (
            parameter if isinstance(parameter, tuple | list) else (parameter,)
        )
        if isinstance(value, ClosedJaxpr | Jaxpr)
    ]
    if name == "cond":
        return max(inner)
    return sum(inner) * (parameters["length"] if name == "scan" else 1)


def _multiplications(equation: Any) -> int:
    left, right = (variable.aval.shape for variable in equation.invars)
    outputs = math.prod(equation.outvars[0].aval.shape)
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = numbers
        return outputs * math.prod(left[axis] for axis in contracted)
    # Each output sums over the kernel without its axis of output channels.
    return outputs * math.prod(right) // right[numbers.rhs_spec[0]]
