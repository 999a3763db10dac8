"""Checks of a run's config, before anything is loaded or written."""

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

from ml_collections import ConfigDict

from isojax.data import check_validation_fraction
from isojax.errors import UsageError, choose
from isojax.fields import field_values, has_own_backbone, no_effect_reason
from isojax.models import BACKBONES
from isojax.training.augment_checks import check_augmentation
from isojax.training.feeding import FEEDS
from isojax.training.health import ON_COLLAPSE
from isojax.training.method import check_method
from isojax.training.metric_writers import read_options
from isojax.training.optimizer import OPTIMIZERS
from isojax.training.settings import PRECISIONS, method_settings

SEEDS = 2**64  # the number of seeds; the largest is one less
_LARGEST_INT = 2**31 - 1  # the largest int32
_LARGEST_FLOAT = 3.4e38  # the largest float32, rounded down
_POSITIVE = (
    "epochs",
    "batch_size",
    "microbatches",
    "checkpoint_every_epochs",
    "evaluate_every_epochs",
    "checkpoint.keep_last",
    "model.width",
    "model.kernel_size",
    "model.stride",
    "model.patch_size",
    "model.hidden_dim",
    "model.projection_dim",
    "model.predictor_hidden_dim",
    "optimizer.learning_rate",
    "optimizer.trust_coefficient",
    "method.loss_scale",
    "method.alpha",
)
_NOT_NEGATIVE = (
    "steps",
    "checkpoint.keep_every_epochs",
    "optimizer.weight_decay",
    "optimizer.warmup_epochs",
    "optimizer.warmup_start",
    "method.epsilon",
)
_FRACTION = (
    "method.correlation_decay",
    "method.target_decay",
    "optimizer.momentum",
)
Check = tuple[Callable[[Any], bool], str]


def check_config(config: ConfigDict) -> None:
    """Checks that a config describes a run that can be trained.

    Args:
      config: the run's configuration.

    Raises:
      UsageError: if a field has an invalid value. The message names the field, its
        value and the remedy.
    """
    _check_numbers(config)
    values = field_values(config)
    for name, (holds, remedy) in _checks(config):
        if not holds(values[name]):
            raise UsageError(f"config.{name}={values[name]}: {remedy}")
    _check_backbone(config)
    check_augmentation(config)
    check_validation_fraction(config.data.validation_fraction)
    _check_streaming(config)
    read_options(config)
    check_method(method_settings(config))


def _checks(config: ConfigDict) -> list[tuple[str, Check]]:
    """Returns the fields with a range or choices, each with condition and remedy."""
    epochs, interval = config.epochs, config.checkpoint_every_epochs
    return [
        ("seed", (lambda v: 0 <= v < SEEDS, "set it to at least 0, below 2**64")),
        *((name, (lambda v: v > 0, "set it above 0")) for name in _POSITIVE),
        *((name, (lambda v: v >= 0, "set it to 0 or more")) for name in _NOT_NEGATIVE),
        *(
            (name, (lambda v: 0 <= v < 1, "set it to at least 0, below 1"))
            for name in _FRACTION
        ),
        (
            "optimizer.warmup_epochs",
            (lambda v: v < epochs, f"set it below config.epochs={epochs}"),
        ),
        ("precision", _one_of(PRECISIONS)),
        ("on_collapse", _one_of(ON_COLLAPSE)),
        ("data.feed", _one_of(FEEDS)),
        ("optimizer.name", _one_of(OPTIMIZERS)),
        (
            "checkpoint.keep_every_epochs",
            (
                lambda v: v % interval == 0,
                f"set it to a multiple of config.checkpoint_every_epochs={interval}",
            ),
        ),
        (
            "model.padding",
            (lambda v: v is None or v >= 0, "set it to 0 or more, or to None"),
        ),
        ("model.kernel_size", (lambda v: v % 2 == 1, "set it to an odd number")),
        # None: training computes the values from its images.
        (
            "data.mean",
            (lambda v: v is None or len(v) > 0, "set one value per channel"),
        ),
        (
            "data.std",
            (
                lambda v: v is None or (len(v) > 0 and min(v) > 0),
                "set one value per channel, each above 0",
            ),
        ),
    ]


def _check_backbone(config: ConfigDict) -> None:
    if not has_own_backbone(config):
        choose("config.model.backbone", config.model.backbone, BACKBONES)
    elif config.remat:
        reason = no_effect_reason(config, "remat")
        raise UsageError(f"config.remat=True has no effect here: {reason}")


def _check_streaming(config: ConfigDict) -> None:
    """Checks that the host can make the crops of the views, if the config says so.

    Raises:
      UsageError: if it cannot.
    """
    if config.data.streaming and config.augment.kind != "simclr":
        raise UsageError(
            "config.data.streaming=True needs config.augment.kind=simclr, not "
            f"{config.augment.kind}; start from a config such as cifar10"
        )


def _one_of(choices: Iterable[str]) -> Check:
    return (lambda value: value in choices, f"choose one of {', '.join(choices)}")


def _check_numbers(config: ConfigDict) -> None:
    """Checks that every number of a config can be represented in JAX.

    Raises:
      UsageError: if a number is not finite or does not fit in 32 bits, or a tuple holds
        anything but numbers.
    """
    for name, value in field_values(config).items():
        is_tuple = isinstance(value, tuple | list)
        for number in value if is_tuple else [value]:
            if is_tuple and (isinstance(number, bool) or not isinstance(number, Real)):
                remedy = "set numbers in parentheses, such as (0.5, 0.5, 0.5)"
                raise UsageError(f"config.{name}={value}: {remedy}")
            if problem := _number_problem(name, number):
                raise UsageError(f"config.{name}={value}: {problem}")


def _number_problem(name: str, number: Any) -> str | None:
    """Returns the remedy if a number cannot be represented, otherwise None."""
    if isinstance(number, float) and not math.isfinite(number):
        return "set it to a finite number"
    if isinstance(number, float) and abs(number) > _LARGEST_FLOAT:
        return "choose a number in the range of float32, below 3.4e38"
    if isinstance(number, int) and abs(number) > _LARGEST_INT and name != "seed":
        return "choose a number in the range of int32, below 2**31"
    return None
