"""Detects a collapsed representation from a run's metrics. Imports no JAX."""

import math
from typing import Any

from ml_collections import ConfigDict

from isojax.runs import layout

# Standard deviation of normalised projections, as a fraction of 1/sqrt(dim), which is
# that of a uniform distribution on the sphere.
_MIN_STD = 0.1
_MIN_PARTICIPATION_RATIO = 1.5


def is_collapsed(row: dict[str, Any], dim: int) -> bool:
    """Returns whether an epoch's metrics are those of a collapsed representation.

    Args:
      row: metrics with `train/std` and `train/participation_ratio`.
      dim: dimension of the projections.
    """
    return (
        row[layout.STD] < _MIN_STD / math.sqrt(dim)
        or row[layout.PARTICIPATION_RATIO] < _MIN_PARTICIPATION_RATIO
    )


def explain_collapse(row: dict[str, Any], method: ConfigDict) -> str:
    """Describes a collapse and its likely cause in a sentence.

    Args:
      row: metrics of the collapsed epoch.
      method: section `method` of the run's config.
    """
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
