"""Costs of a training step for devices that are not present, from its program."""

import time
from collections import Counter
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from isojax.targets.hlo import parse_program
from isojax.targets.peaks import Peak, peak_of
from isojax.targets.program_facts import (
    Collective,
    Product,
    collectives,
    has_float64,
    host_calls,
    library_calls,
    products,
)
from isojax.training.abstract_step import AbstractStep
from isojax.training.operation_count import count_operations


class StepEstimate(NamedTuple):
    """A compiled step; all numbers are those of one device.

    Attributes:
      device: `device_kind` of the devices.
      devices: number of devices over all hosts.
      hosts: number of hosts.
      batch_size: images per step, over all devices.
      precision: `config.precision`.
      flops: floating-point operations of the matrix products and convolutions.
      bytes_accessed: bytes read and written, as XLA estimates them; None without an
        estimate.
      arguments: bytes of state and batch.
      state: bytes of the state, part of `arguments`.
      aliased: bytes of arguments whose memory the results reuse.
      temporaries: bytes of temporary arrays.
      outputs: bytes of the results.
      collectives: collectives by kind.
      products: number of convolutions and products by what they compute with.
      library_calls: number of calls of each kernel outside of XLA.
      has_float64: whether the program has 64-bit floats.
      host_calls: names of the instructions that involve the host.
      seconds_to_compile: wall time of the compilation.
    """

    device: str
    devices: int
    hosts: int
    batch_size: int
    precision: str
    flops: float
    bytes_accessed: float | None
    arguments: int
    state: int
    aliased: int
    temporaries: int
    outputs: int
    collectives: dict[str, Collective]
    products: Counter[Product]
    library_calls: Counter[str]
    has_float64: bool
    host_calls: list[str]
    seconds_to_compile: float

    @property
    def memory(self) -> int:
        """Bytes of a device's memory that the step needs."""
        return self.arguments + self.temporaries + self.outputs - self.aliased


def estimate_step(config: ConfigDict, devices: list[jax.Device]) -> StepEstimate:
    """Compiles a run's step for devices and analyses its program.

    Args:
      config: the run's configuration.
      devices: the devices of all processes; they need not be present.

    Returns:
      The costs.

    Raises:
      UsageError: if the config is invalid, or its batch does not divide evenly among
        the devices.
    """
    step = AbstractStep(config, devices)
    lowered = step.lower()
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds_to_compile = time.perf_counter() - start
    program = parse_program(compiled.as_text() or "")
    memory = compiled.memory_analysis()
    if memory is None:
        raise RuntimeError(f"XLA has no memory analysis for {devices[0].device_kind}")
    return StepEstimate(
        device=devices[0].device_kind,
        devices=len(devices),
        hosts=len({device.process_index for device in devices}),
        batch_size=config.batch_size,
        precision=config.precision,
        flops=count_operations(step.trace()),
        bytes_accessed=(compiled.cost_analysis() or {}).get("bytes accessed"),
        arguments=memory.argument_size_in_bytes,
        state=sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(step.state)
        ),
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        collectives=collectives(program),
        products=products(parse_program(lowered.as_text(dialect="hlo"))),
        library_calls=library_calls(program),
        has_float64=has_float64(program),
        host_calls=host_calls(program),
        seconds_to_compile=seconds_to_compile,
    )


def describe_estimate(estimate: StepEstimate) -> str:
    """Formats the costs as lines to print."""
    peak = peak_of(estimate.device)
    lines = [
        f"a step of batch {estimate.batch_size} in {estimate.precision}, compiled for "
        f"{estimate.devices} × {estimate.device} on {estimate.hosts} host(s); "
        "per device:",
        _row("arguments", f"{_megabytes(estimate.arguments)} of state and batch"),
        _row("temporaries", f"{_megabytes(estimate.temporaries)}"),
        _row(
            "memory",
            _megabytes(estimate.memory)
            + (f", {estimate.memory / peak.memory:.1%} of the device" if peak else ""),
        ),
        _row(
            "donated",
            f"{_megabytes(estimate.aliased)} reused for results, of "
            f"{_megabytes(estimate.state)} of state",
        ),
        _row("operations", f"{estimate.flops / 1e9:,.1f} GFLOP"),
    ]
    if estimate.bytes_accessed:
        lines.append(
            _row(
                "bytes",
                f"{estimate.bytes_accessed / 1e9:,.1f} GB accessed (XLA's estimate), "
                f"{estimate.flops / estimate.bytes_accessed:,.1f} FLOP per byte",
            )
        )
    if peak is not None:
        seconds = roofline_seconds(estimate, peak)
        lines.append(
            _row(
                "roofline",
                f"{seconds * 1e3:,.2f} ms, {estimate.batch_size / seconds:,.0f} "
                "images/s over all devices",
            )
        )
    lines += [
        _row("collectives", _list_collectives(estimate)),
        _row("precision", _list_products(estimate)),
        _row(
            "libraries",
            ", ".join(f"{n} {name}" for name, n in estimate.library_calls.items())
            or "none",
        ),
        _row("compiled in", f"{estimate.seconds_to_compile:,.1f} s"),
    ]
    return "\n".join(lines)


def roofline_seconds(estimate: StepEstimate, peak: Peak) -> float:
    """Time of a step that reaches the peak rate of operations or of bytes.

    Args:
      estimate: the costs. Without an estimate of the bytes only the operations count.
      peak: the rates of the device.
    """
    return max(
        estimate.flops / peak.operations[estimate.precision],
        (estimate.bytes_accessed or 0) / peak.bandwidth,
    )


def _row(name: str, text: str) -> str:
    return f"  {name:12} {text}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def _list_collectives(estimate: StepEstimate) -> str:
    kinds = [
        f"{found.number} {kind} of {found.bytes / 1e6:,.1f} MB"
        for kind, found in estimate.collectives.items()
    ]
    return ", ".join(kinds) or "none"


def _list_products(estimate: StepEstimate) -> str:
    return ", ".join(
        f"{count} {product.kind}{'s' * (count != 1)} in {product.dtype}"
        + (
            ""
            if product.precision == "default"
            else f" at {product.precision} precision"
        )
        for product, count in sorted(estimate.products.items())
    )
