"""Devices that programs can be compiled for, but that are not present."""

from typing import Any

import jax
from jax.experimental import topologies

from isojax.targets.gpu_description import GPU_DESCRIPTIONS, gpu_topology
from isojax.targets.names import Target

# Two cores of a chip are one device, the default of JAX for these generations.
_MEGACORES = ("v4", "v5p")


def target_devices(target: Target) -> list[jax.Device]:
    """Returns the devices of a target, over all hosts.

    Args:
      target: the target; `environment.prepare` has been called for it.
    """
    if target.platform == "gpu":
        return topologies.get_topology_desc(
            platform="cuda",
            topology=gpu_topology(target.chips),
            target_config=GPU_DESCRIPTIONS[target.kind],
        ).devices
    options: dict[str, Any] = {}
    if target.kind in _MEGACORES:
        options["chip_config_name"] = "megacore"
    if target.chips == 1:
        options["chips_per_host_bounds"] = [1, 1, 1]
    return topologies.get_topology_desc(
        platform="tpu",
        topology_name=":".join((target.kind, "x".join(map(str, target.shape)))),
        **options,
    ).devices
