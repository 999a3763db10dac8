"""A plain PyTorch version of the training step, with weights from isojax."""

from collections.abc import Callable

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from isojax.interop import torchvision_state_dict
from isojax.training.state import TrainState


class BasicBlock(nn.Module):
    """ResNet-18's block, with torchvision's names."""

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int):
        """Creates the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (n, c, h, w) to the output of the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """ResNet-50's block, with torchvision's names."""

    expansion = 4

    def __init__(self, inputs: int, features: int, stride: int):
        """Creates the layers; the block has four times `features` outputs."""
        super().__init__()
        outputs = self.expansion * features
        self.conv1 = nn.Conv2d(inputs, features, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv3 = nn.Conv2d(features, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (n, c, h, w) to the output of the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Returns the projection of a block's shortcut, if its shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
    )


# Blocks of each stage, by the name of the backbone.
STAGES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class Network(nn.Module):
    """Backbone and projector."""

    def __init__(self, model: ConfigDict, channels: int):
        """Creates the layers described by a config's section `model`."""
        super().__init__()
        width, kernel = model.width, model.kernel_size
        self.conv1 = nn.Conv2d(
            channels, width, kernel, model.stride, kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if model.max_pool else nn.Identity()
        block_type, counts = STAGES[model.backbone]
        inputs = width
        for stage, count in enumerate(counts):
            blocks = []
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                blocks.append(block_type(inputs, width * 2**stage, stride))
                inputs = width * 2**stage * block_type.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.projector = nn.Sequential(
            nn.Linear(inputs, model.hidden_dim),
            nn.BatchNorm1d(model.hidden_dim),
            nn.ReLU(),
            nn.Linear(model.hidden_dim, model.projection_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (n, c, h, w) to projections (n, dim)."""
        x = self.pool(functional.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.projector(x.mean((2, 3)))


def make_torch_step(
    config: ConfigDict,
    state: TrainState,
    views: list[np.ndarray],
    *,
    device: str = "cpu",
    is_compiled: bool = False,
) -> Callable[[], Tensor]:
    """Makes a function that trains one step of IsoLoss on the same two views each time.

    Args:
      config: the config of the run; bfloat16 precision means autocast.
      state: the state of the run before its first step; provides the weights.
      views: two arrays (n, h, w, c).
      device: PyTorch's name of the device, "cpu" or "cuda".
      is_compiled: whether the networks are compiled by `torch.compile`.

    Returns:
      A function that performs one step and returns the loss before it, a scalar on the
      device.
    """
    online = Network(config.model, channels=views[0].shape[-1])
    _load(online, state)
    online = online.to(device, memory_format=torch.channels_last)
    has_ema = config.method.target == "ema"
    target = online
    if has_ema:
        target = Network(config.model, channels=views[0].shape[-1])
        target.load_state_dict(online.state_dict())
        target = target.to(device, memory_format=torch.channels_last)
        target = target.requires_grad_(False)
    optimizer = torch.optim.SGD(
        online.parameters(),
        lr=config.optimizer.learning_rate,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    images = [
        torch.from_numpy(view.copy())
        .to(device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=torch.channels_last)
        for view in views
    ]
    is_mixed = config.precision == "bfloat16"
    correlation = torch.zeros((config.model.projection_dim,) * 2, device=device)
    if is_compiled:
        online.compile()
        if has_ema:
            target.compile()

    def step() -> Tensor:
        nonlocal correlation
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
            projections = [online(view) for view in images]
            with torch.no_grad():
                targets = [target(view) for view in images] if has_ema else projections
        projections = [z.float() for z in projections]
        targets = [z.float().detach() for z in targets]
        matrix, root, correlation = _predictor(config, correlation, projections)
        loss = sum(
            _iso_cosine(z, z @ matrix, z @ root, other).mean()
            for z, other in zip(projections, reversed(targets), strict=True)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if has_ema:
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(target.parameters()),
                    list(online.parameters()),
                    1 - config.method.target_decay,
                )
        return loss.detach()

    return step


def _predictor(
    config: ConfigDict, correlation: Tensor, projections: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    method = config.method
    with torch.no_grad():
        z = torch.cat(projections)
        keep = method.correlation_decay
        correlation = keep * correlation + (1 - keep) * z.T @ z / len(z)
        eigenvalues, vectors = torch.linalg.eigh(correlation)
        eigenvalues = eigenvalues.clamp(min=0)
        if method.normalize:
            eigenvalues = eigenvalues / eigenvalues.max() + method.epsilon
        lam = eigenvalues**method.alpha
        return (
            (vectors * lam) @ vectors.T,
            (vectors * lam.sqrt()) @ vectors.T,
            (correlation),
        )


def _iso_cosine(z: Tensor, p: Tensor, r: Tensor, target: Tensor) -> Tensor:
    norm = p.detach().norm(dim=1)
    direction = functional.normalize(target)
    cosine = (p.detach() * direction).sum(1) / norm
    return -(z * direction).sum(1) / norm + 0.5 * cosine * r.square().sum(1) / norm**2


def _load(network: Network, state: TrainState) -> None:
    backbone = {
        "params": state.params["backbone"],
        "batch_stats": state.batch_stats["backbone"],
    }
    arrays = torchvision_state_dict(backbone)
    heads = state.params["projector"]
    for name, layer in (("0", "hidden"), ("3", "output")):
        arrays[f"projector.{name}.weight"] = np.array(heads[layer]["kernel"]).T.copy()
        arrays[f"projector.{name}.bias"] = np.array(heads[layer]["bias"])
    missing = network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False
    )
    if missing.unexpected_keys or any(
        "projector.1" not in name for name in missing.missing_keys
    ):
        raise ValueError(f"the weights do not match the network: {missing}")
