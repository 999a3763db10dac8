"""Measures a run's encoder and the baselines by the chosen protocols."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from isojax import processes
from isojax.data import Dataset
from isojax.data.dataset import check_dataset
from isojax.errors import UsageError
from isojax.evaluation.features import extract_features
from isojax.evaluation.images import changes_of, load_images
from isojax.evaluation.label_fractions import labelled_part
from isojax.evaluation.options import ALL_STEPS, Options
from isojax.evaluation.protocols import (
    Protocol,
    ProtocolInputs,
    ProtocolKind,
    find_protocol,
)
from isojax.progress import SILENT, Progress
from isojax.runs.config_file import load_config
from isojax.runs.evaluation_result import ENCODERS, PRETRAINED, RANDOM_INIT, RAW_PIXELS
from isojax.training import random_encoder
from isojax.training.agreement import check_agreement
from isojax.training.encoder import Encoder, checkpoint_steps, load_encoder_and_step

# Sides in pixels: the largest whose raw pixels are features, and that of larger images.
_LARGEST_RAW, _REDUCED_RAW = 96, 32
# Values of all training images up to which raw pixels are measured by default: 1 GB as
# float32. CIFAR and STL-10 have about 150 million, TinyImageNet 1.2 billion.
_MOST_RAW_VALUES = 2**28


class Evaluation(NamedTuple):
    """The result of an evaluation.

    Attributes:
      result: the content of the result file.
      inputs: the run's encoder, with its features and all labelled images.
      predictions: the linear readout's class of each test image, shape (m,); None if
        that protocol was not chosen.
    """

    result: dict[str, Any]
    inputs: ProtocolInputs
    predictions: np.ndarray | None


def measure_run(
    workdir: str | os.PathLike,
    *,
    dataset: Dataset | None = None,
    backbone: nn.Module | None = None,
    data_dir: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008 - immutable
    progress: Progress = SILENT,
) -> Evaluation:
    """Measures a run as `evaluate_run` does, without writing files.

    The run's encoder, its encoder before the first step, and raw pixels are measured by
    the same protocols, on features that are computed once in evaluation mode. Protocols
    that train the encoder, or that read a classifier stored in the run, measure the
    pretrained encoder alone. Raw pixels are left out by default if those of the
    training images are more than 268 million values. If several checkpoints are chosen,
    the last is measured by every protocol, and the others by those that do not train
    the encoder.

    Args:
      workdir: the run's folder.
      dataset: the images, as in `evaluate_run`.
      backbone: the module that was passed to `pretrain`, if any.
      data_dir: the folder of the data sets, as in `load_dataset`.
      options: what to measure.
      progress: reports features, fits, searches and fine-tuning.

    Returns:
      The result, and the data that a report of it needs.

    Raises:
      UsageError: if the folder holds no run or no such checkpoint, the run has another
        backbone, a protocol does not exist or does not suit the images, or the images
        do not fit the encoder.
    """
    if dataset is not None:
        check_dataset(dataset)
    start = time.perf_counter()
    config = load_config(workdir)
    protocols = {name: find_protocol(name) for name in options.protocols}
    curve_steps = _curve_steps(workdir, options)
    apply, variables, step = load_encoder_and_step(
        workdir, curve_steps[-1] if curve_steps else None, backbone=backbone
    )
    changes = {k: v for k, v in options.data.items() if v != config.data[k]}
    if dataset is not None:
        changes |= changes_of(dataset, config.data)
    if changes:
        _refuse_stored(protocols)
    images, num_pretrained = load_images(
        config.data, changes, given=dataset, data_dir=data_dir
    )
    check_agreement(
        config,
        images,
        workdir=workdir,
        protocol=",".join(options.protocols),
        label_fractions=",".join(map(str, options.label_fractions)),
        steps=None if curve_steps is None else ",".join(map(str, curve_steps)),
        data=str(sorted(options.data.items())),
    )
    make_inputs = partial(_make_inputs, workdir, config.augment, images)
    result: dict[str, Any] = {
        "step": step,
        "split": images.evaluation_name,
        "num_train": len(images.train.labels),
        "num_test": len(images.evaluation.labels),
    }
    if changes:
        result["data"] = changes
    if num_pretrained:
        result["num_test_pretrained"] = num_pretrained

    rows = _LabelFractions(images.train.labels, options.label_fractions)
    about = progress.about(ENCODERS[PRETRAINED])
    own = make_inputs(step, (apply, variables), about)
    point: dict[str, Any] = {"step": step}
    predictions = None
    for name, protocol in protocols.items():
        if protocol.kind is not ProtocolKind.TRAINS_ENCODER or rows.has_all:
            measured = protocol.measure(own, about)
            result |= measured.values | measured.chosen | measured.details
            if protocol.kind is not ProtocolKind.TRAINS_ENCODER:
                point |= measured.values
            if name == "linear":
                predictions = measured.predictions
        rows.measure(own, protocol, about)
    frozen = [p for p in protocols.values() if p.kind is ProtocolKind.FROZEN]
    # One encoder at a time, because the features of large images fill the memory.
    baselines = _baselines(images, options.raw_pixels) if frozen else {}
    for prefix, load in baselines.items():
        about = progress.about(ENCODERS[prefix])
        inputs = make_inputs(step, load(workdir, backbone), about)
        for protocol in frozen:
            values = protocol.measure(inputs, about).values
            result |= {prefix + name: value for name, value in values.items()}
            rows.measure(inputs, protocol, about, prefix=prefix)
        del inputs
    if options.label_fractions != (1.0,):
        result["label_fractions"] = rows.rows
    if curve_steps:
        points = [
            _measure_point(make_inputs, workdir, earlier, backbone, protocols, progress)
            for earlier in curve_steps[:-1]
        ]
        result["curve"] = [*points, point]
    result["seconds"] = round(time.perf_counter() - start, 1)
    return Evaluation(result, own, predictions)


class _LabelFractions:
    """Accuracies with a fraction of the labelled images, one row per fraction."""

    def __init__(self, labels: np.ndarray, fractions: tuple[float, ...]) -> None:
        self.has_all = 1.0 in fractions
        below = [fraction for fraction in fractions if fraction < 1]
        self._parts = [labelled_part(labels, fraction) for fraction in below]
        self.rows: list[dict[str, Any]] = [
            {"fraction": fraction, "num_train": len(part)}
            for fraction, part in zip(below, self._parts, strict=True)
        ]

    def measure(
        self,
        inputs: ProtocolInputs,
        protocol: Protocol,
        progress: Progress,
        prefix: str = "",
    ) -> None:
        if protocol.kind is ProtocolKind.STORED:
            return
        for row, part in zip(self.rows, self._parts, strict=True):
            measured = protocol.measure(inputs.part(part), progress)
            found = measured.values | measured.chosen
            row |= {prefix + name: value for name, value in found.items()}


def _curve_steps(workdir: str | os.PathLike, options: Options) -> list[int] | None:
    """Returns the checkpoints to measure, ascending; None for the newest alone."""
    if options.steps is None:
        return None
    if isinstance(options.steps, str):
        if options.steps != ALL_STEPS:
            raise UsageError(
                f"there are no steps {options.steps!r}; choose {ALL_STEPS!r}"
            )
        return checkpoint_steps(workdir, None)
    return checkpoint_steps(workdir, options.steps)


def _refuse_stored(protocols: Mapping[str, Protocol]) -> None:
    for name, protocol in protocols.items():
        if protocol.kind is ProtocolKind.STORED:
            raise UsageError(
                f"--protocol={name} is a classifier of the run's own data; leave it "
                "out if --config.data is set"
            )


def _make_inputs(
    workdir: str | os.PathLike,
    augment: ConfigDict,
    dataset: Dataset,
    step: int,
    encoder: Encoder,
    progress: Progress,
) -> ProtocolInputs:
    features, test_features = (
        extract_features(*encoder, split.images, progress=progress)
        for split in (dataset.train, dataset.evaluation)
    )
    return ProtocolInputs(
        workdir, step, augment, dataset, encoder, dataset.train, features, test_features
    )


def _measure_point(
    make_inputs: Callable[[int, Encoder, Progress], ProtocolInputs],
    workdir: str | os.PathLike,
    step: int,
    backbone: nn.Module | None,
    protocols: Mapping[str, Protocol],
    progress: Progress,
) -> dict[str, Any]:
    """Measures an earlier checkpoint by the protocols that do not train the encoder."""
    about = progress.about(f"step {step:,}")
    apply, variables, _ = load_encoder_and_step(workdir, step, backbone=backbone)
    inputs = make_inputs(step, (apply, variables), about)
    point: dict[str, Any] = {"step": step}
    for protocol in protocols.values():
        if protocol.kind is not ProtocolKind.TRAINS_ENCODER:
            point |= protocol.measure(inputs, about).values
    return point


def _raw_pixels(variables: dict, images: Array) -> Array:
    """Pixels as features; of large images, whose pixels would fill the memory, few."""
    del variables
    images = images.astype(np.float32)
    if images.shape[1] > _LARGEST_RAW:
        shape = (len(images), _REDUCED_RAW, _REDUCED_RAW, images.shape[-1])
        images = jax.image.resize(images, shape, "linear")
    return images.reshape(len(images), -1)


_Baseline = Callable[[str | os.PathLike, nn.Module | None], Encoder]
# Loaders of the baseline encoders, by the prefix of their accuracies in the result.
_BASELINES: dict[str, _Baseline] = {
    RANDOM_INIT: lambda workdir, backbone: random_encoder(workdir, backbone=backbone),
    RAW_PIXELS: lambda workdir, backbone: (_raw_pixels, {}),
}


def _baselines(dataset: Dataset, raw_pixels: bool | None) -> dict[str, _Baseline]:
    """Returns the baselines to measure, and prints a line if raw pixels are left out.

    Args:
      dataset: the images.
      raw_pixels: as in `Options`.
    """
    images = dataset.train.images
    batch = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    values = len(images) * jax.eval_shape(_raw_pixels, {}, batch).size
    if raw_pixels is None and values > _MOST_RAW_VALUES:
        processes.print_once(
            f"The baseline of raw pixels is left out: {len(images):,} images have "
            f"{values:,} values, more than {_MOST_RAW_VALUES:,}. --raw_pixels measures "
            "it."
        )
    measured = values <= _MOST_RAW_VALUES if raw_pixels is None else raw_pixels
    return {
        name: load
        for name, load in _BASELINES.items()
        if measured or name != RAW_PIXELS
    }
