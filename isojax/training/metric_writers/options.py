"""The config's section `logging`: destinations of metrics besides the run's files."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from isojax.errors import UsageError

_CHOICES = {
    "wandb": ("off", "online", "offline"),
    "tensorboard": ("auto", "on", "off"),
    "tracked_modes": (True, False),
    "lidar": (True, False),
}


class LoggingOptions(NamedTuple):
    """The section `logging`, which `configs/base.py` documents."""

    wandb: str = "off"
    tensorboard: str = "auto"
    tracked_modes: bool = True
    lidar: bool = True


def read_options(config: Mapping[str, Any]) -> LoggingOptions:
    """Reads and checks the options of a run's config.

    Args:
      config: the run's configuration. Missing options have their defaults.

    Returns:
      The options.

    Raises:
      UsageError: if a field has a value that does not exist.
    """
    options = LoggingOptions(**config.get("logging", {}))
    for name, choices in _CHOICES.items():
        value = getattr(options, name)
        if value not in choices:
            raise UsageError(
                f"config.logging.{name}={value}: choose one of "
                f"{', '.join(map(str, choices))}"
            )
    return options
