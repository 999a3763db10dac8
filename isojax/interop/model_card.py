"""The model card of exported weights: their description, and code that loads them."""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

import isojax
from isojax.errors import UsageError
from isojax.evaluation.evaluate import format_table
from isojax.fields import data_name
from isojax.interop.loading_code import (
    first_padding,
    has_torchvisions_convolution,
    is_resnet,
    loading_code,
    loading_hints,
)
from isojax.invocation import command
from isojax.runs import layout
from isojax.runs.backbone_text import describe_backbone
from isojax.runs.config_file import load_config
from isojax.training import Trained


def model_card(
    workdir: str | os.PathLike, trained: Trained, *, file_format: str, file_name: str
) -> str:
    """Returns the model card of a run's weights, in Markdown.

    Args:
      workdir: the run's folder, with its config and evaluation.
      trained: the weights.
      file_format: the format of the file: `safetensors`, `flax`, `torchvision` or
        `timm`.
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
        "network": f"{describe_backbone(model)}, without a classifier",
        **({"stem": _describe_stem(config)} if is_resnet(model) else {}),
        "input": f"{side}×{side} pixels, {channels} channel{'s' * (channels > 1)}",
        "output": f"{trained.features} features",
        "also in the file": _describe_heads(trained, config, file_format),
        "trained on": f"{data_name(data)}, split {data.pretrain_split}, without labels",
        "method": f"{config.preset}: {method.metric} metric, {method.form} form, "
        f"predictor {method.predictor}, target {method.target}",
        "trained for": f"{trained.step:,} steps with batches of {config.batch_size} "
        f"images (planned: {config.epochs} epochs)",
        "created with": f"isojax {isojax.__version__}",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    code = loading_code(config, trained, file_format=file_format, file_name=file_name)
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
            *loading_hints(config, file_format),
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
    stem += f"{model.stride} and padding {first_padding(model)}, {pool}"
    if has_torchvisions_convolution(config) and model.max_pool:
        return stem
    return f"{stem}; not torchvision's own"


def _describe_heads(trained: Trained, config: ConfigDict, file_format: str) -> str:
    if file_format in ("torchvision", "timm"):
        return "nothing"
    dim = config.model.projection_dim
    heads = f"projector ({trained.features} to {dim})"
    if trained.predictor is not None:
        heads += f", closed-form predictor W_P ({dim}×{dim})"
    return heads


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
