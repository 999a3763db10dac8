"""Costs of a training step: operations, bytes, collectives and time."""

import math
import re
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.errors import UsageError
from isojax.targets.peaks import peak_of
from isojax.training.operation_count import count_operations
from isojax.training.synthetic_step import SyntheticStep

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")


class Profile(NamedTuple):
    """Costs of a step on one device.

    Attributes:
      flops: floating-point operations of the matrix products and convolutions.
      bytes_accessed: bytes read and written by the compiled program, as XLA estimates
        them; None without an estimate.
      memory: peak bytes of temporary arrays, without the state; NaN if the backend has
        no estimate.
      collectives: number of collectives in the compiled program, by kind.
      seconds: median time of a step.
      seconds_to_compile: time to compile the step.
    """

    flops: float
    bytes_accessed: float | None
    memory: float
    collectives: dict[str, int]
    seconds: float
    seconds_to_compile: float


def profile_step(
    config: ConfigDict, *, steps: int, trace: str | Path | None = None
) -> Profile:
    """Compiles a run's step, times it on random images and analyses its program.

    Args:
      config: the run's configuration.
      steps: number of timed steps, after one that is not timed.
      trace: folder for a trace of these steps, which TensorBoard and XProf can show.

    Returns:
      The costs.

    Raises:
      UsageError: if the config is invalid or `steps` is not positive.
    """
    if steps < 1:
        raise UsageError(f"--steps={steps}: set it above 0")
    synthetic = SyntheticStep(config)
    lowered = synthetic.lower()
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds_to_compile = time.perf_counter() - start
    jax.block_until_ready(synthetic.step())
    if trace is not None:
        jax.profiler.start_trace(str(trace))
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        jax.block_until_ready(synthetic.step())
        seconds.append(time.perf_counter() - start)
    if trace is not None:
        jax.profiler.stop_trace()
    program = compiled.as_text() or ""
    counts = {
        kind: len(re.findall(rf" {kind}(?:-start)?\(", program))
        for kind in _COLLECTIVES
    }
    return Profile(
        flops=count_operations(synthetic.trace()),
        bytes_accessed=(compiled.cost_analysis() or {}).get("bytes accessed"),
        memory=getattr(compiled.memory_analysis(), "temp_size_in_bytes", math.nan),
        collectives={kind: count for kind, count in counts.items() if count},
        seconds=statistics.median(seconds),
        seconds_to_compile=seconds_to_compile,
    )


def describe_profile(profile: Profile, config: ConfigDict) -> str:
    """Formats the costs as lines to print."""
    kind = jax.devices()[0].device_kind
    collectives = ", ".join(f"{n} {name}" for name, n in profile.collectives.items())
    per_second = profile.flops / profile.seconds
    lines = [
        f"a step of batch {config.batch_size} in {config.precision} on "
        f"{data_parallel.device_count()} device(s), {kind}",
        f"  time         {profile.seconds * 1e3:,.1f} ms, "
        f"{config.batch_size / profile.seconds:,.0f} images/s",
        f"  operations   {profile.flops / 1e9:,.1f} GFLOP per device, "
        f"{per_second / 1e9:,.0f} GFLOP/s",
        f"  memory       {profile.memory / 1e6:,.0f} MB of temporary arrays per device",
        f"  collectives  {collectives or 'none'}",
        f"  compiled in  {profile.seconds_to_compile:,.1f} s",
    ]
    if profile.bytes_accessed:
        lines.insert(
            3,
            f"  bytes        {profile.bytes_accessed / 1e9:,.1f} GB accessed (XLA's "
            f"estimate), {profile.flops / profile.bytes_accessed:,.1f} FLOP per byte",
        )
    peak = peak_of(kind)
    if peak is not None:
        rate = peak.operations["bfloat16"]
        lines.insert(
            3,
            f"  utilisation  {per_second / rate:.1%} of the device's "
            f"{rate / 1e12:,.0f} TFLOP/s in bfloat16",
        )
    return "\n".join(lines)
