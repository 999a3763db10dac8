"""What a training step needs in addition to its state and batch."""

from typing import NamedTuple

import optax
from jax import Array

from isojax.models import SiameseNetwork
from isojax.training.method import Method
from isojax.training.settings import ViewPair

Batch = dict[str, Array]
Metrics = dict[str, Array]


class StepContext(NamedTuple):
    """What a step needs in addition to its state and batch.

    Attributes:
      network: the module, whose BatchNorm has the same `axis_name`.
      optimizer: gradient transformation of the parameters.
      learning_rate: schedule of the optimiser, for the metrics.
      method: settings of the method.
      views: settings of the two views.
      total_steps: length of the run, for the schedule of the target.
      microbatches: number of parts that a device's batch is processed in.
      axis_name: mapped axis over which the global batch is spread, if any.
      stacks_views: whether the network processes both views at once; each view still
        has its own batch statistics. The network's batch statistics must be those of
        `isojax.models.BatchNorm`.
    """

    network: SiameseNetwork
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    method: Method
    views: ViewPair
    total_steps: int
    microbatches: int = 1
    axis_name: str | None = None
    stacks_views: bool = False
