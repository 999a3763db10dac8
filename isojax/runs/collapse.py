"""Collapse, as a run's metrics show it. Imports no JAX, so that a report reads fast."""

import math
from typing import Any

from ml_collections import ConfigDict

from isojax.runs import layout

_SMALLEST_STD = 0.1  # of normalised projections, in units of the healthy 1/sqrt(dim)
_SMALLEST_RATIO = 1.5  # participation ratio


def is_collapsed(row: dict[str, Any], dim: int) -> bool:
    """Whether an epoch's metrics are those of a collapsed representation.

    Args:
      row: with `train/std` and `train/participation_ratio`.
      dim: of the projections.
    """
    return (
        row[layout.STD] < _SMALLEST_STD / math.sqrt(dim)
        or row[layout.PARTICIPATION_RATIO] < _SMALLEST_RATIO
    )


def explain_collapse(row: dict[str, Any], method: ConfigDict) -> str:
    """A sentence about a collapse and its likely cause."""
    if not method.stop_gradient:
        cause = "there is no stop-gradient; set config.method.stop_gradient=True"
    elif method.predictor == "none":
        cause = "there is no predictor; set config.method.predictor=directpred"
    elif method.target == "online" and method.form == "standard":
        cause = (
            "a standard loss without a moving average; set config.method.target=ema or "
            "config.method.form=iso, or use gentler views"
        )
    else:
        cause = "a learning rate too high, or views too strong"
    return (
        f"the representation has collapsed by epoch {row['epoch']}: standard deviation "
        f"of normalised projections {row[layout.STD]:.3g}, participation ratio "
        f"{row[layout.PARTICIPATION_RATIO]:.2f}. Likely cause: {cause}."
    )
