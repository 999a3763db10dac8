"""Costs of a training step for devices that are not present, from its program."""

import time
from collections import Counter
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from isojax.targets.hlo import parse_program
from isojax.targets.peaks import Peak, peak_of
from isojax.targets.program_facts import (
    Collective,
    Product,
    bytes_accessed,
    collectives,
    has_float64,
    host_calls,
    library_calls,
    products,
)
from isojax.training.abstract_step import AbstractStep
from isojax.training.device_memory import compile_step
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
      bytes_accessed: bytes read and written.
      bytes_by_xla: whether XLA estimated them, for TPUs with the padding of arrays;
        otherwise they are those of the operands and results of all kernels.
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
    bytes_accessed: float
    bytes_by_xla: bool
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
        the devices; or if XLA finds that the step does not fit in their memory.
    """
    step = AbstractStep(config, devices)
    lowered = step.lower()
    start = time.perf_counter()
    compiled = compile_step(lowered, config.precision)
    seconds_to_compile = time.perf_counter() - start
    program = parse_program(compiled.as_text() or "")
    memory = compiled.memory_analysis()
    if memory is None:
        raise RuntimeError(f"XLA has no memory analysis for {devices[0].device_kind}")
    bytes_by_xla = (compiled.cost_analysis() or {}).get("bytes accessed")
    return StepEstimate(
        device=devices[0].device_kind,
        devices=len(devices),
        hosts=len({device.process_index for device in devices}),
        batch_size=config.batch_size,
        precision=config.precision,
        flops=count_operations(step.trace()),
        bytes_accessed=bytes_by_xla or bytes_accessed(program),
        bytes_by_xla=bytes_by_xla is not None,
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


def roofline_seconds(estimate: StepEstimate, peak: Peak) -> float:
    """Time of a step that reaches the peak rate of operations or of bytes.

    Args:
      estimate: the costs.
      peak: the rates of the device.
    """
    return max(
        estimate.flops / peak.operations[estimate.precision],
        estimate.bytes_accessed / peak.bandwidth,
    )


def estimate_as_json(estimate: StepEstimate) -> dict[str, Any]:
    """Returns the costs as values that JSON can store, with the roofline's seconds."""
    peak = peak_of(estimate.device)
    return estimate._asdict() | {
        "memory": estimate.memory,
        "roofline_seconds": peak and roofline_seconds(estimate, peak),
        "collectives": {
            kind: found._asdict() for kind, found in estimate.collectives.items()
        },
        "products": [
            {**product._asdict(), "number": number}
            for product, number in sorted(estimate.products.items())
        ],
    }
