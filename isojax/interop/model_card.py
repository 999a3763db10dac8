"""The model card of exported weights: their description, and code that loads them."""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

import isojax
from isojax.errors import UsageError
from isojax.evaluation.evaluate import format_table
from isojax.invocation import command
from isojax.runs import layout
from isojax.runs.config_file import load_config
from isojax.training import Trained

_TORCHVISION_WIDTH = 64
_TORCHVISION_FIRST = (3, 7, 2)  # channels, kernel size and stride
_TORCHVISION_PADDING = 3


def model_card(
    workdir: str | os.PathLike, trained: Trained, *, file_format: str, file_name: str
) -> str:
    """Returns the model card of a run's weights, in Markdown.

    Args:
      workdir: the run's folder, with its config and evaluation.
      trained: the weights.
      file_format: the format of the file: `safetensors`, `flax` or `torchvision`.
      file_name: the name of the file.

    Returns:
      The Markdown text.

    Raises:
      UsageError: if the evaluation cannot be read.
    """
    config = load_config(workdir)
    data, model, method = config.data, config.model, config.method
    side, channels = data.resolution, len(data.mean)
    facts = {
        "network": f"ResNet-18 of width {model.width}, without a classifier",
        "stem": _describe_stem(config),
        "input": f"{side}×{side} pixels, {channels} channel{'s' * (channels > 1)}",
        "output": f"{8 * model.width} features",
        "also in the file": _describe_heads(trained, config, file_format),
        "trained on": f"{data.name}, split {data.pretrain_split}, without labels",
        "method": f"{config.preset}: {method.metric} metric, {method.form} form, "
        f"predictor {method.predictor}, target {method.target}",
        "trained for": f"{trained.step:,} steps with batches of {config.batch_size} "
        f"images (planned: {config.epochs} epochs)",
        "created with": f"isojax {isojax.__version__}",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    if file_format == "torchvision":
        code = _torch_lines(config, file_name)
    else:
        code = _jax_lines(config, file_name, file_format, trained)
    return "\n".join(
        [
            f"# {file_name}",
            "",
            *["| | |", "|---|---|", *rows],
            "",
            "## Images",
            "",
            f"In [0, 1], resized by the shorter side, cropped to {side}×{side}, then",
            f"`(image - mean) / std` with mean {_numbers(data.mean)} and std "
            f"{_numbers(data.std)}, one value per channel.",
            "",
            "## Loading",
            "",
            *["```python", *code, "```"],
            *_hints(config, file_format),
            "",
            *["## Accuracy", "", *_accuracy(Path(workdir), trained.step)],
            "",
            *["## Config", "", "```json"],
            *[json.dumps(config.to_dict(), indent=2, sort_keys=True), "```", ""],
        ]
    )


def _describe_stem(config: ConfigDict) -> str:
    model = config.model
    pool = "a 3×3 max-pool of stride 2" if model.max_pool else "no max-pool"
    stem = f"{model.kernel_size}×{model.kernel_size} convolution of stride "
    stem += f"{model.stride} and padding {_padding(config)}, {pool}"
    return stem if _has_torchvisions_stem(config) else f"{stem}; not torchvision's own"


def _describe_heads(trained: Trained, config: ConfigDict, file_format: str) -> str:
    if file_format == "torchvision":
        return "nothing"
    dim = config.model.projection_dim
    heads = f"projector ({8 * config.model.width} to {dim})"
    if trained.predictor is not None:
        heads += f", closed-form predictor W_P ({dim}×{dim})"
    return heads


def _first_convolution(config: ConfigDict) -> tuple[int, int, int]:
    return len(config.data.mean), config.model.kernel_size, config.model.stride


def _padding(config: ConfigDict) -> int:
    padding = config.model.padding
    return config.model.kernel_size // 2 if padding is None else padding


def _has_torchvisions_stem(config: ConfigDict) -> bool:
    return _has_torchvisions_convolution(config) and config.model.max_pool


def _has_torchvisions_convolution(config: ConfigDict) -> bool:
    has_padding = _padding(config) == _TORCHVISION_PADDING
    return has_padding and _first_convolution(config) == _TORCHVISION_FIRST


def _jax_lines(
    config: ConfigDict, file_name: str, file_format: str, trained: Trained
) -> list[str]:
    model = config.model
    if file_format == "flax":
        lines = [
            "from pathlib import Path",
            "",
            "from flax.serialization import msgpack_restore",
            "from isojax.models import MLP, ResNet18",
            "",
            f'weights = msgpack_restore(Path("{file_name}").read_bytes())',
        ]
    else:
        lines = [
            "from flax.traverse_util import unflatten_dict",
            "from isojax.models import MLP, ResNet18",
            "from safetensors.numpy import load_file",
            "",
            f'weights = unflatten_dict(load_file("{file_name}"), sep="/")',
        ]
    lines += [
        'kinds = ("params", "batch_stats")',
        'backbone = {kind: weights[kind]["backbone"] for kind in kinds}',
        'projector = {kind: weights[kind]["projector"] for kind in kinds}',
        f"network = ResNet18(width={model.width}, kernel_size={model.kernel_size}, "
        f"stride={model.stride}, padding={_padding(config)}, "
        f"max_pool={model.max_pool})",
        "features = network.apply(backbone, images)  # (n, height, width, channels)",
        f"head = MLP({model.hidden_dim}, {model.projection_dim})",
        "projection = head.apply(projector, features, train=False)",
    ]
    if trained.predictor is not None:
        lines.append('prediction = projection @ weights["predictor"]')
    return lines


def _torch_lines(config: ConfigDict, file_name: str) -> list[str]:
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
        lines += [
            f"class Narrow(torchvision.models.ResNet):  # of width {width}",
            "    def _make_layer(self, block, planes, *rest, **options):",
            f"        planes = planes * {width} // {_TORCHVISION_WIDTH}",
            f"        self.inplanes = max(planes // 2, {width})",
            "        return super()._make_layer(block, planes, *rest, **options)",
            "",
            "network = Narrow(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])",
            f"network.bn1 = torch.nn.BatchNorm2d({width})",
        ]
    else:
        lines.append("network = torchvision.models.resnet18()")
    if is_narrow or not _has_torchvisions_convolution(config):
        lines.append(
            f"network.conv1 = torch.nn.Conv2d({channels}, {width}, {side}, "
            f"stride={stride}, padding={_padding(config)}, bias=False)"
        )
    if not config.model.max_pool:
        lines.append("network.maxpool = torch.nn.Identity()")
    return [
        *lines,
        "network.fc = torch.nn.Identity()",
        f'network.load_state_dict(load_file("{file_name}"))',
        "features = network.eval()(images)  # (n, channels, height, width)",
    ]


def _hints(config: ConfigDict, file_format: str) -> list[str]:
    if file_format != "torchvision":
        return []
    if config.model.width != _TORCHVISION_WIDTH:
        return [
            "",
            f"torchvision and timm have ResNet-18 of width {_TORCHVISION_WIDTH} only.",
        ]
    return [
        "",
        'For timm, start with `network = timm.create_model("resnet18", num_classes=0)`',
        "and omit the line with `fc`.",
    ]


def _accuracy(workdir: Path, step: int) -> list[str]:
    path = workdir / layout.RESULT_FILE
    if not path.exists():
        return ["Not measured yet; run `isojax evaluate`."]
    try:
        result = json.loads(path.read_text())
        table, measured = format_table(result), result["step"]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read; to write it again, run "
            f"{command('evaluate', f'--workdir={workdir}')}"
        ) from error
    if measured != step:
        return [
            f"Not measured: `isojax evaluate` last measured step {measured:,}; these "
            f"weights are of step {step:,}."
        ]
    return ["Measured by `isojax evaluate`:", "", "```", table, "```"]


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(str(value) for value in values)})"
