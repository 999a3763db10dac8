"""When a run's numbers are not finite."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax import Array

from isojax import parallel
from isojax.errors import UsageError
from isojax.files import write_atomically
from isojax.runs import layout

# In the order in which a step computes them. The predictor's eigenvalues are clipped
# and so always finite; what they do is seen in the predictions.
QUANTITIES = ("projections", "correlation", "predictions", "loss", "gradients")
ON_COLLAPSE = ("warn", "stop")


def first_not_finite(quantities: dict[str, Array]) -> Array:
    """Which quantity of a step is the first that is not finite.

    Args:
      quantities: a scalar for each of `QUANTITIES`, that is not finite if and only if
        the quantity is not.

    Returns:
      Its number, counted from 1, or 0 where all are finite; int32 scalar.
    """
    is_bad = ~jnp.isfinite(jnp.stack([quantities[name] for name in QUANTITIES]))
    return jnp.where(is_bad.any(), jnp.argmax(is_bad) + 1, 0).astype(jnp.int32)


def check_finite(
    metrics: dict[str, Any], *, step: int, workdir: Path, last_checkpoint: int | None
) -> None:
    """Ends a run whose numbers are not finite.

    Args:
      metrics: of a step, on the host, with `not_finite` of `first_not_finite`.
      step: the steps done, this one included.
      workdir: the run's folder, where the step's metrics are then written.
      last_checkpoint: the newest checkpoint's step, if any.

    Raises:
      UsageError: naming the step, the first quantity, and how to go on.
    """
    number = int(metrics["not_finite"])
    if number == 0:
        return
    first = QUANTITIES[number - 1]
    report = {"step": step, "first": first}
    report |= {name: str(float(value)) for name, value in metrics.items()}
    if parallel.is_first_process():
        with suppress(OSError):  # a full disk; the message below matters more
            content = json.dumps(report, indent=2) + "\n"
            write_atomically(workdir / layout.NOT_FINITE_FILE, content.encode())
    kept = (
        f"the checkpoint of step {last_checkpoint} stays: go on from it by --fork_from="
        f"{workdir} and another --workdir, with a lower config.optimizer.learning_rate"
        if last_checkpoint is not None
        else "there is no checkpoint yet: lower config.optimizer.learning_rate, and "
        "name another --workdir"
    )
    raise UsageError(
        f"training diverged in step {step}: the {first} went first (see "
        f"{workdir / layout.NOT_FINITE_FILE}); {kept}"
    )
