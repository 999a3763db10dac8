"""Compiles the programs of an evaluation for a target, in a process of its own.

python -m tests.accelerators.evaluation_programs TARGET FILE writes the costs to the
file as JSON, by the name of the program.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from isojax.targets.environment import prepare
from isojax.targets.names import parse_target

IMAGES, BANK, NEIGHBOURS, CLASSES = 256, 4096, 200, 10  # images of a device
TRAINING_IMAGES = 1024  # images of a device whose features the linear readout takes


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

    from isojax.configs import cifar10
    from isojax.data_parallel import MappedFunction
    from isojax.evaluation import finetuning, knn, linear

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

    coordinates = shape(width + 1, CLASSES)
    rows = {
        "inputs": shape(count, TRAINING_IMAGES, width + 1),
        "labels": shape(count, TRAINING_IMAGES, dtype=jnp.int32),
    }
    constants = {
        "coordinates": coordinates,
        "transform": shape(width + 1, width + 1),
        "penalty": shape(),
        "count": shape(),
    }
    readout = linear._value_and_gradient.on(devices)
    yield "linear readout", readout.lower(constants, rows)
    products = linear._scaled_products.on(devices)
    yield "products of features", products.lower(shape(), rows)

    logits = partial(finetuning._logits, apply)
    augment = finetuning._geometry(cifar10.get_config().augment)
    start = jax.eval_shape(
        partial(finetuning._with_head, apply, classes=CLASSES),
        variables,
        shape(1, *images.shape[2:], dtype=jnp.uint8),
    )
    params = start.pop("params")
    momentum = jax.eval_shape(finetuning._MOMENTUM.init, params)
    tuning = finetuning._make_step(logits, augment, devices=devices)
    batch = {
        "images": shape(count, 4, *images.shape[2:], dtype=jnp.uint8),
        "labels": shape(count, 4, dtype=jnp.int32),
        "indices": shape(count, 4, dtype=jnp.int32),
    }
    settings = {"rest": start, "number": number, "rate": shape(), "count": shape()}
    yield "fine-tuning", tuning.lower((params, momentum), batch, settings)


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
