"""Compiles a lowered program and measures what one device needs to run it."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from isojax.targets import program_facts
from isojax.targets.hlo import parse_program
from isojax.targets.program_facts import Collective, Product


class ProgramCosts(NamedTuple):
    """Costs of a compiled program; all numbers are those of one device.

    Attributes:
      device: `device_kind` of the devices.
      devices: number of devices over all hosts.
      hosts: number of hosts.
      bytes_accessed: bytes read and written.
      bytes_by_xla: whether XLA estimated them, for TPUs with the padding of arrays;
        otherwise they are those of the operands and results of all kernels.
      arguments: bytes of the arguments.
      outputs: bytes of the results.
      aliased: bytes of arguments whose memory the results reuse.
      temporaries: bytes of temporary arrays.
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
    bytes_accessed: float
    bytes_by_xla: bool
    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    collectives: dict[str, Collective]
    products: Counter[Product]
    library_calls: Counter[str]
    has_float64: bool
    host_calls: list[str]
    seconds_to_compile: float

    @property
    def memory(self) -> int:
        """Bytes of a device's memory that the program needs."""
        return self.arguments + self.temporaries + self.outputs - self.aliased

    def as_json(self) -> dict[str, Any]:
        """Returns the costs as values that JSON can store."""
        return self._asdict() | {
            "memory": self.memory,
            "collectives": {
                kind: found._asdict() for kind, found in self.collectives.items()
            },
            "products": [
                {**product._asdict(), "number": number}
                for product, number in sorted(self.products.items())
            ],
        }


def compile_program(
    lowered: jax.stages.Lowered, devices: Sequence[jax.Device]
) -> ProgramCosts:
    """Compiles a lowered program and analyses it.

    Args:
      lowered: the program.
      devices: the devices of all processes that it was lowered for.

    Raises:
      jax.errors.JaxRuntimeError: if XLA cannot compile it, for example because it does
        not fit in the memory of a TPU.
    """
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds_to_compile = time.perf_counter() - start
    memory = compiled.memory_analysis()
    if memory is None:
        raise RuntimeError(f"XLA has no memory analysis for {devices[0].device_kind}")
    program = parse_program(compiled.as_text() or "")
    bytes_by_xla = (compiled.cost_analysis() or {}).get("bytes accessed")
    return ProgramCosts(
        device=devices[0].device_kind,
        devices=len(devices),
        hosts=len({device.process_index for device in devices}),
        bytes_accessed=bytes_by_xla or program_facts.bytes_accessed(program),
        bytes_by_xla=bytes_by_xla is not None,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        collectives=program_facts.collectives(program),
        products=program_facts.products(parse_program(lowered.as_text(dialect="hlo"))),
        library_calls=program_facts.library_calls(program),
        has_float64=program_facts.has_float64(program),
        host_calls=program_facts.host_calls(program),
        seconds_to_compile=seconds_to_compile,
    )
