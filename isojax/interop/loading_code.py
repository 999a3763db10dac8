"""Code that loads exported weights, for the model card."""

from ml_collections import ConfigDict

from isojax.fields import has_own_backbone, no_effect_reason
from isojax.models import BACKBONES
from isojax.models.resnet import ResNet
from isojax.training import Trained

_TORCHVISION_WIDTH = 64
_TORCHVISION_FIRST = (3, 7, 2)  # channels, kernel size and stride
_TORCHVISION_PADDING = 3


def loading_code(
    config: ConfigDict, trained: Trained, *, file_format: str, file_name: str
) -> list[str]:
    """Returns lines of Python that load weights and compute features.

    Args:
      config: the run's configuration.
      trained: the weights.
      file_format: the format of the file: `safetensors`, `flax`, `torchvision` or
        `timm`.
      file_name: the name of the file.
    """
    if file_format == "torchvision":
        return _torchvision_lines(config, file_name)
    if file_format == "timm":
        return _timm_lines(config, file_name)
    return _jax_lines(config, file_name, file_format, trained)


def loading_hints(config: ConfigDict, file_format: str) -> list[str]:
    """Returns lines of text below the code; none if there is nothing to add."""
    if file_format != "torchvision":
        return []
    name = config.model.backbone
    if config.model.width != _TORCHVISION_WIDTH:
        return ["", f"torchvision and timm have {name} of width 64 only."]
    return [
        "",
        f'For timm, start with `network = timm.create_model("{name}", num_classes=0)`',
        "and omit the line with `fc`.",
    ]


def is_resnet(model: ConfigDict) -> bool:
    """Returns whether the backbone of a config's section `model` is a ResNet."""
    return _resnet(model) is not None


def first_padding(model: ConfigDict) -> int:
    """Returns the zeros around the images for the first convolution of a ResNet."""
    return model.kernel_size // 2 if model.padding is None else model.padding


def has_torchvisions_convolution(config: ConfigDict) -> bool:
    """Returns whether the first convolution of a ResNet is that of torchvision."""
    has_padding = first_padding(config.model) == _TORCHVISION_PADDING
    return has_padding and _first_convolution(config) == _TORCHVISION_FIRST


def _resnet(model: ConfigDict) -> type[ResNet] | None:
    constructor = BACKBONES.get(model.backbone)
    if isinstance(constructor, type) and issubclass(constructor, ResNet):
        return constructor
    return None


def _first_convolution(config: ConfigDict) -> tuple[int, int, int]:
    return len(config.data.mean), config.model.kernel_size, config.model.stride


def _jax_lines(
    config: ConfigDict, file_name: str, file_format: str, trained: Trained
) -> list[str]:
    model = config.model
    network = _constructor(config)
    names = "MLP" if has_own_backbone(config) else f"MLP, {network.partition('(')[0]}"
    if file_format == "flax":
        lines = [
            "from pathlib import Path",
            "",
            "from flax.serialization import msgpack_restore",
            f"from isojax.models import {names}",
            "",
            f'weights = msgpack_restore(Path("{file_name}").read_bytes())',
        ]
    else:
        lines = [
            "from flax.traverse_util import unflatten_dict",
            f"from isojax.models import {names}",
            "from safetensors.numpy import load_file",
            "",
            f'weights = unflatten_dict(load_file("{file_name}"), sep="/")',
        ]
    lines.append('kinds = ("params", "batch_stats")')
    if "backbone" in trained.variables["batch_stats"]:
        lines.append('backbone = {kind: weights[kind]["backbone"] for kind in kinds}')
    else:
        lines.append('backbone = {"params": weights["params"]["backbone"]}')
    note = "  # the module that was passed to pretrain"
    lines += [
        'projector = {kind: weights[kind]["projector"] for kind in kinds}',
        f"network = {network}{note if has_own_backbone(config) else ''}",
        "# Images are (n, height, width, channels).",
        "features = network.apply(backbone, images, train=False)",
        f"head = MLP({model.hidden_dim}, {model.projection_dim})",
        "projection = head.apply(projector, features, train=False)",
    ]
    if trained.predictor is not None:
        lines.append('prediction = projection @ weights["predictor"]')
    return lines


def _constructor(config: ConfigDict) -> str:
    """Returns the expression that builds the backbone."""
    model = config.model
    if has_own_backbone(config):
        return model.backbone
    names = ("width", "kernel_size", "stride", "padding", "max_pool", "patch_size")
    values = model.to_dict() | {"padding": first_padding(model)}
    arguments = ", ".join(
        f"{name}={values[name]}"
        for name in names
        if no_effect_reason(config, f"model.{name}") is None
    )
    return f"{BACKBONES[model.backbone].__name__}({arguments})"


def _torchvision_lines(config: ConfigDict, file_name: str) -> list[str]:
    network = _resnet(config.model)
    if network is None:
        raise ValueError(f"{config.model.backbone} is not a ResNet")
    width = config.model.width
    channels, side, stride = _first_convolution(config)
    is_narrow = width != _TORCHVISION_WIDTH
    lines = [
        "import torch",
        "import torchvision",
        "from safetensors.torch import load_file",
        "",
    ]
    if is_narrow:
        block = network.block_type.__name__
        lines += [
            f"class Narrow(torchvision.models.ResNet):  # of width {width}",
            "    def _make_layer(self, block, planes, *rest, **options):",
            f"        if planes == {_TORCHVISION_WIDTH}:  # the first stage",
            f"            self.inplanes = {width}",
            f"        planes = planes * {width} // {_TORCHVISION_WIDTH}",
            "        return super()._make_layer(block, planes, *rest, **options)",
            "",
            f"blocks = {list(network.blocks)}",
            f"network = Narrow(torchvision.models.resnet.{block}, blocks)",
            f"network.bn1 = torch.nn.BatchNorm2d({width})",
        ]
    else:
        lines.append(f"network = torchvision.models.{config.model.backbone}()")
    if is_narrow or not has_torchvisions_convolution(config):
        lines.append(
            f"network.conv1 = torch.nn.Conv2d({channels}, {width}, {side}, "
            f"stride={stride}, padding={first_padding(config.model)}, bias=False)"
        )
    if not config.model.max_pool:
        lines.append("network.maxpool = torch.nn.Identity()")
    return [
        *lines,
        "network.fc = torch.nn.Identity()",
        f'network.load_state_dict(load_file("{file_name}"))',
        "features = network.eval()(images)  # (n, channels, height, width)",
    ]


def _timm_lines(config: ConfigDict, file_name: str) -> list[str]:
    model, data = config.model, config.data
    return [
        "import timm",
        "from safetensors.torch import load_file",
        "",
        "network = timm.create_model(",
        f'    "{model.backbone}_patch16_224",',
        "    num_classes=0,",
        f"    img_size={data.resolution},",
        f"    patch_size={model.patch_size},",
        f"    in_chans={len(data.mean)},",
        ")",
        f'network.load_state_dict(load_file("{file_name}"))',
        "features = network.eval()(images)  # (n, channels, height, width)",
    ]
