"""Checks of arguments, each telling what is allowed.

Numbers that JAX traces are not known yet and pass.
"""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def check_choice(label: str, value: str, allowed: Collection[str]) -> None:
    """Raises ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{label}={value!r} is none of {', '.join(allowed)}")


def check_count(label: str, value: Any) -> None:
    """Raises ValueError unless the value is a whole number of at least 1."""
    if not (isinstance(value, Integral) and value >= 1):
        raise ValueError(f"{label}={value!r} is not a whole number of at least 1")


def check_positive(label: str, value: Any) -> None:
    """Raises ValueError unless the number is positive and finite."""
    if isinstance(value, Real) and not 0 < value < math.inf:
        raise ValueError(f"{label}={value} is not positive and finite")


def check_not_negative(label: str, value: Any) -> None:
    """Raises ValueError unless the number is zero, or positive and finite."""
    if isinstance(value, Real) and not 0 <= value < math.inf:
        raise ValueError(f"{label}={value} is not zero, or positive and finite")
