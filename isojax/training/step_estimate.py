"""Costs of a training step for devices that are not present, from its program."""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from isojax.targets.peaks import peak_of
from isojax.targets.program_costs import ProgramCosts, compile_program
from isojax.training.abstract_step import AbstractStep
from isojax.training.device_memory import explained
from isojax.training.operation_count import count_operations


class StepEstimate(NamedTuple):
    """Costs of a training step.

    Attributes:
      costs: costs of the compiled program.
      batch_size: images per step, over all devices.
      precision: `config.precision`.
      flops: floating-point operations of the matrix products and convolutions of one
        device.
      state: bytes of the state, part of the arguments of the program.
    """

    costs: ProgramCosts
    batch_size: int
    precision: str
    flops: float
    state: int

    @property
    def roofline_seconds(self) -> float | None:
        """Time of a step at the device's peak rate of operations or of bytes.

        None if the peak of the device is not in the table.
        """
        peak = peak_of(self.costs.device)
        if peak is None:
            return None
        return max(
            self.flops / peak.operations[self.precision],
            self.costs.bytes_accessed / peak.bandwidth,
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the costs as values that JSON can store, in one object."""
        own = {name: value for name, value in self._asdict().items() if name != "costs"}
        return self.costs.as_json() | own | {"roofline_seconds": self.roofline_seconds}


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
    with explained(config.precision):
        costs = compile_program(step.lower(), devices)
    return StepEstimate(
        costs=costs,
        batch_size=config.batch_size,
        precision=config.precision,
        flops=count_operations(step.trace()),
        state=sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(step.state)
        ),
    )
