"""Compiles the programs of an evaluation for a target, in a process of its own.

python -m tests.accelerators.evaluation_programs TARGET FILE writes the costs to the
file as JSON, by the name of the program.
"""

import json
import sys
import tempfile
from pathlib import Path

from isojax.targets.environment import prepare
from isojax.targets.names import parse_target

IMAGES, BANK, NEIGHBOURS, CLASSES = 256, 4096, 200, 10  # a device's batch of images


def write_costs(target_name, path):
    """Compiles the programs and writes their costs."""
    target = parse_target(target_name)
    prepare(target)
    from isojax.targets.devices import target_devices
    from isojax.targets.program_costs import compile_program

    devices = target_devices(target)
    costs = {
        name: compile_program(lowered, devices).as_json()
        for name, lowered in lowered_programs(devices)
    }
    Path(path).write_text(json.dumps(costs, indent=2))


def lowered_programs(devices):
    """Yields the name of each program of the evaluation, and the lowered program."""
    import jax
    import jax.numpy as jnp

    from isojax.data_parallel import MappedFunction
    from isojax.evaluation import knn

    def shape(*sides, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sides, dtype)

    count = len(devices)
    apply, variables = _encoder()
    images = shape(count, IMAGES, 32, 32, 3, dtype=jnp.uint8)
    features = MappedFunction(apply, devices=devices)
    yield "features", features.lower(variables, images)

    width = jax.eval_shape(apply, variables, shape(*images.shape[1:])).shape[-1]
    number = shape(dtype=jnp.int32)
    found = shape(count, IMAGES, NEIGHBOURS)
    yield (
        "k-NN",
        knn._merge_block.on(devices).lower(
            (shape(BANK, width), number, number),
            (
                found,
                shape(*found.shape, dtype=jnp.int32),
                shape(count, IMAGES, width),
            ),
        ),
    )


def _encoder():
    """Returns the encoder of CIFAR-10's config, and the shapes of its variables."""
    import jax

    from isojax.configs import cifar10
    from isojax.runs.config_file import save_config
    from isojax.training.encoder import random_encoder

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        save_config(Path(folder), cifar10.get_config())

        def initialize():
            found["apply"], variables = random_encoder(folder)
            return variables

        shapes = jax.eval_shape(initialize)
    return found["apply"], shapes


if __name__ == "__main__":
    write_costs(*sys.argv[1:])
