"""Random weights by tensor name, and reference files from torch and torchvision.

    python -m tests.interop.reference

writes the reference files again. It needs torch and torchvision; the tests do not. The
stored files were written with torch 2.14.1 and torchvision 0.29.1.
"""

import functools
import sys
import types
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
FEATURES = FOLDER / "torchvision_features.npz"
CHECKPOINT = FOLDER / "solo_learn.ckpt"
SIDES = {"small": 32, "imagenet": 96, "solo_learn": 32}
CHECKPOINT_WIDTH = 2


def draw(name, shape):
    """Draws weights or running statistics, seeded by the tensor's name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan_out = shape[0] * shape[2] * shape[3]
        values = rng.normal(0, np.sqrt(2 / fan_out), shape)
    elif name.endswith((".weight", ".running_var")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)


def draw_images(stem):
    """Draws two normalised images, shape (2, side, side, 3)."""
    side = SIDES[stem]
    return np.random.default_rng(side).normal(size=(2, side, side, 3)).astype("float32")


def shapes_of(reference, stem):
    """Returns the shapes of torchvision's tensors by name, from the stored file."""
    lines = str(reference[f"{stem}_shapes"]).splitlines()
    return {
        name: tuple(map(int, numbers))
        for name, *numbers in (line.split() for line in lines)
    }


def _make_network(stem):
    import torch
    from torchvision.models import resnet18

    network = resnet18().eval()
    network.fc = torch.nn.Identity()
    if stem != "imagenet":
        padding = 2 if stem == "solo_learn" else 1
        network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=padding, bias=False)
        network.maxpool = torch.nn.Identity()
    return network


def _write_features():
    import torch

    arrays = {}
    for stem in SIDES:
        network = _make_network(stem)
        shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
        network.load_state_dict(
            {
                name: torch.from_numpy(draw(name, shape))
                for name, shape in shapes.items()
                if not name.endswith("num_batches_tracked")
            },
            strict=False,
        )
        images = torch.from_numpy(draw_images(stem).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            arrays[f"{stem}_features"] = network(images).numpy()
        arrays[f"{stem}_shapes"] = "\n".join(
            " ".join([name, *map(str, shape)]) for name, shape in shapes.items()
        )
    np.savez_compressed(FEATURES, **arrays)


def static_lr(get_lr, scale):
    """Replaces solo-learn's function of this name, which its checkpoints refer to."""
    return [scale * rate for rate in get_lr()]


def _write_checkpoint():
    """Writes a checkpoint like Lightning's, with a schedule bound to its optimiser."""
    import torch

    state_dict = OrderedDict()
    for name, tensor in _make_network("solo_learn").state_dict().items():
        shape = tuple(
            n if i > 1 or n == 3 else n * CHECKPOINT_WIDTH // 64
            for i, n in enumerate(tensor.shape)
        )
        values = torch.tensor(7) if not shape else torch.from_numpy(draw(name, shape))
        if len(shape) == 4 and shape[1] > 3:
            values = values.to(memory_format=torch.channels_last)
        state_dict[f"backbone.{name}"] = values
    storage = torch.arange(6.0)
    state_dict["classifier.weight"] = storage[2:].reshape(2, 2).T
    state_dict["momentum_backbone.conv1.weight"] = storage.bfloat16()

    module = types.ModuleType("solo.methods.base")
    static_lr.__module__, module.static_lr = module.__name__, static_lr
    sys.modules.update(
        {"solo": module, "solo.methods": module, module.__name__: module}
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    schedule.get_lr = functools.partial(static_lr, schedule.get_lr, scale=2)
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.1.2",
        "state_dict": state_dict,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "hyper_parameters": {"path": FOLDER.relative_to(FOLDER)},
    }
    torch.save(content, CHECKPOINT)


if __name__ == "__main__":
    _write_features()
    _write_checkpoint()
