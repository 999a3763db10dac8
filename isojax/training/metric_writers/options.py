"""Where a run's metrics go beside its own files: the config's section `logging`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from isojax.errors import UsageError

_CHOICES = {
    "wandb": ("off", "online", "offline"),
    "tensorboard": ("auto", "on", "off"),
    "tracked_modes": (True, False),
}


class LoggingOptions(NamedTuple):
    """The section `logging`, as `configs/base.py` explains it."""

    wandb: str = "off"
    tensorboard: str = "auto"
    tracked_modes: bool = True


def read_options(config: Mapping[str, Any]) -> LoggingOptions:
    """The options of a run's config; the defaults where it is older than they are.

    Raises:
      UsageError: naming the field and its choices.
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
