"""Detects and reports numbers that are not finite."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax import Array

from isojax import processes
from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.runs import layout

# In the order in which a step computes them. The predictor's eigenvalues are clipped
# and therefore always finite; their effect shows in the predictions.
QUANTITIES = ("projections", "correlation", "predictions", "loss", "gradients")
# Whether a collapse ends the run, by the value of config.on_collapse.
ON_COLLAPSE = {"warn": False, "stop": True}


def first_not_finite(quantities: dict[str, Array]) -> Array:
    """Returns which quantity of a step is the first that is not finite.

    Args:
      quantities: a scalar for each of `QUANTITIES` that is not finite if and only if
        the quantity is not.

    Returns:
      Number of the quantity, counted from 1, or 0 if all are finite; int32 scalar.
    """
    is_bad = ~jnp.isfinite(jnp.stack([quantities[name] for name in QUANTITIES]))
    return jnp.where(is_bad.any(), jnp.argmax(is_bad) + 1, 0).astype(jnp.int32)


def check_finite(
    number: int,
    metrics: Mapping[str, Any],
    *,
    step: int,
    workdir: Path,
    last_checkpoint: int | None,
) -> None:
    """Raises an error if a step's numbers are not finite.

    Args:
      number: the first quantity that is not finite, as `first_not_finite` counts.
      metrics: metrics of the step, on the host.
      step: number of steps done, including this one.
      workdir: the run's folder. The metrics are written there before the error is
        raised.
      last_checkpoint: step of the newest checkpoint, if any.

    Raises:
      UsageError: if `number` is not 0. The message names the step, the quantity and how
        to continue.
    """
    if number == 0:
        return
    first = QUANTITIES[number - 1]
    report = {"step": step, "first": first} | {
        name: str(float(value)) for name, value in metrics.items()
    }
    if processes.is_first_process():
        with suppress(OSError):  # such as a full disk; the error below matters more
            content = json.dumps(report, indent=2) + "\n"
            write_atomically(workdir / layout.NOT_FINITE_FILE, content.encode())
    kept = (
        f"to continue from the checkpoint of step {last_checkpoint}, use --fork_from="
        f"{workdir} with another --workdir and a lower config.optimizer.learning_rate"
        if last_checkpoint is not None
        else "there is no checkpoint yet: lower config.optimizer.learning_rate and "
        "choose another --workdir"
    )
    raise UsageError(
        f"training diverged in step {step}: {first} became non-finite first (see "
        f"{workdir / layout.NOT_FINITE_FILE}); {kept}"
    )
