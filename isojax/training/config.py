"""What a config may hold, checked before anything is made."""

from ml_collections import ConfigDict

from isojax.data import check_validation_fraction
from isojax.data.augment import check_augmentation
from isojax.errors import UsageError
from isojax.reporting import read_options
from isojax.training.feeding import FEEDS
from isojax.training.health import ON_COLLAPSE
from isojax.training.method import check_method
from isojax.training.optimizer import OPTIMIZERS

PRECISIONS = ("float32", "bfloat16")
_POSITIVE = (
    "epochs",
    "batch_size",
    "microbatches",
    "checkpoint_every_epochs",
    "checkpoint.keep_last",
    "model.width",
    "model.kernel_size",
    "model.stride",
    "model.hidden_dim",
    "model.projection_dim",
    "model.predictor_hidden_dim",
    "optimizer.learning_rate",
    "optimizer.trust_coefficient",
    "method.loss_scale",
    "method.alpha",
)
_NOT_NEGATIVE = (
    "seed",
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


def check_config(config: ConfigDict) -> None:
    """Refuses a config that cannot be run.

    Args:
      config: of a run.

    Raises:
      UsageError: naming the field and the remedy.
    """
    for name in _POSITIVE:
        _require(config, name, lambda value: value > 0, "set it above 0")
    for name in _NOT_NEGATIVE:
        _require(config, name, lambda value: value >= 0, "set it to 0 or more")
    for name in _FRACTION:
        _require(
            config, name, lambda value: 0 <= value < 1, "set it to at least 0, below 1"
        )
    _require(
        config,
        "optimizer.warmup_epochs",
        lambda value: value < config.epochs,
        f"set it below config.epochs={config.epochs}",
    )
    _require(
        config,
        "precision",
        lambda value: value in PRECISIONS,
        f"choose one of {', '.join(PRECISIONS)}",
    )
    _require(
        config,
        "on_collapse",
        lambda value: value in ON_COLLAPSE,
        f"choose one of {', '.join(ON_COLLAPSE)}",
    )
    _require(
        config,
        "data.feed",
        lambda value: value in FEEDS,
        f"choose one of {', '.join(FEEDS)}",
    )
    _require(
        config,
        "optimizer.name",
        lambda value: value in OPTIMIZERS,
        f"choose one of {', '.join(OPTIMIZERS)}",
    )
    _require(
        config,
        "checkpoint.keep_every_epochs",
        lambda value: value % config.checkpoint_every_epochs == 0,
        "set it to a multiple of config.checkpoint_every_epochs="
        f"{config.checkpoint_every_epochs}",
    )
    _require(
        config, "model.kernel_size", lambda value: value % 2, "set it to an odd number"
    )
    _require(
        config, "data.std", lambda value: min(value) > 0, "set every value above 0"
    )
    check_augmentation(config)
    check_validation_fraction(config.data.validation_fraction)
    read_options(config)
    check_method(config.method)


def _require(config: ConfigDict, name: str, holds, remedy: str) -> None:
    value = config
    for part in name.split("."):
        value = value[part]
    if not holds(value):
        raise UsageError(f"config.{name}={value}: {remedy}")
