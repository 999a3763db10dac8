"""Random weights by tensor name, and reference files from torch, torchvision and timm.

    python -m tests.interop.reference

writes the reference files again. It needs torch, torchvision and timm; the tests do
not. The stored files were written with torch 2.14.1, torchvision 0.29.1 and timm
1.0.31.
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
DEEPER = FOLDER / "deeper_features.npz"
TIMM = FOLDER / "timm_features.npz"
CHECKPOINT = FOLDER / "solo_learn.ckpt"
SIDES = {"small": 32, "imagenet": 96, "solo_learn": 32}
SIDES |= {"resnet34": 64, "resnet50": 64, "vit": 32}
DEEPER_WIDTH = 8
LAST_NORM = {"resnet34": "bn2", "resnet50": "bn3"}
# A small transformer of timm's class, and the sizes of which only names are compared.
VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
VITS = ("vit_tiny", "vit_small")
CHECKPOINT_WIDTH = 2


def draw(name, shape, *, last_norm=None):
    """Draws weights or running statistics, seeded by the tensor's name.

    The scale of a block's `last_norm` is small, so that features of deep networks are
    near 1.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan_out = shape[0] * shape[2] * shape[3]
        values = rng.normal(0, np.sqrt(2 / fan_out), shape)
    elif len(shape) == 2:
        values = rng.normal(0, shape[1] ** -0.5, shape)
    elif name.endswith((".weight", ".running_var")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.1, shape)
    if last_norm is not None and name.endswith(f"{last_norm}.weight"):
        values *= 0.2
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


def _make_deeper(name, width=DEEPER_WIDTH):
    """Makes torchvision's network of a given width, with ImageNet's stem."""
    import torch
    from torchvision.models import ResNet, resnet

    class OfWidth(ResNet):
        def _make_layer(self, block, planes, *rest, **options):
            if planes == 64:
                self.inplanes = width
            return super()._make_layer(block, planes * width // 64, *rest, **options)

    blocks = {"resnet34": resnet.BasicBlock, "resnet50": resnet.Bottleneck}
    network = OfWidth(blocks[name], [3, 4, 6, 3]).eval()
    network.conv1 = torch.nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    network.bn1 = torch.nn.BatchNorm2d(width).eval()
    network.fc = torch.nn.Identity()
    return network


def _make_vit(_):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=SIDES["vit"], num_classes=0, **VIT).eval()


def _write_all_features():
    import timm

    stems = dict.fromkeys(("small", "imagenet", "solo_learn"), _make_network)
    _write_features(FEATURES, stems)
    deeper = dict.fromkeys(("resnet34", "resnet50"), _make_deeper)
    whole = {f"whole_{name}": _make_deeper(name, 64) for name in deeper}
    _write_features(DEEPER, deeper, only_shapes=whole)
    vits = {
        name: timm.create_model(f"{name}_patch16_224", num_classes=0) for name in VITS
    }
    _write_features(TIMM, {"vit": _make_vit}, only_shapes=vits)


def _write_features(path, makers, only_shapes=()):
    import torch

    arrays = {}
    for stem, make in makers.items():
        network = make(stem)
        shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
        network.load_state_dict(
            {
                name: torch.from_numpy(draw(name, shape, last_norm=LAST_NORM.get(stem)))
                for name, shape in shapes.items()
                if not name.endswith("num_batches_tracked")
            },
            strict=False,
        )
        images = torch.from_numpy(draw_images(stem).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            arrays[f"{stem}_features"] = network(images).numpy()
        arrays[f"{stem}_shapes"] = _shapes_text(network)
    for name in only_shapes:
        arrays[f"{name}_shapes"] = _shapes_text(only_shapes[name])
    np.savez_compressed(path, **arrays)


def _shapes_text(network):
    return "\n".join(
        " ".join([name, *map(str, tensor.shape)])
        for name, tensor in network.state_dict().items()
    )


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
    _write_all_features()
    _write_checkpoint()
