"""Checks of the config sections `augment` and `augment_view2`."""

from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from isojax.data.augment import KINDS
from isojax.errors import UsageError, choose

Check = tuple[Callable[[Any], bool], str]

_RANGES: dict[str, Check] = {
    "crop_scale": (
        lambda value: _is_range(value) and 0 < value[0] and value[1] <= 1,
        "give the smallest and the largest, above 0 and at most 1",
    ),
    "crop_ratio": (
        lambda value: _is_range(value) and 0 < value[0],
        "give the smallest and the largest, above 0",
    ),
    "blur_sigma": (
        lambda value: _is_range(value) and 0 <= value[0],
        "give the smallest and the largest, 0 or more",
    ),
    "hue": (
        lambda value: 0 <= value <= 0.5,
        "set it to at least 0, at most 0.5 (half the colour circle)",
    ),
    # Beyond these limits an affine map moves the whole image out of the view.
    "rotation": (lambda value: 0 <= value <= 180, "set it to at least 0, at most 180"),
    "shift": (lambda value: 0 <= value <= 1, "set it to at least 0, at most 1"),
    "shear": (lambda value: 0 <= value <= 5, "set it to at least 0, at most 5"),
    "log_scale": (lambda value: 0 <= value <= 3, "set it to at least 0, at most 3"),
    "log_aspect": (lambda value: 0 <= value <= 3, "set it to at least 0, at most 3"),
}
_PROBABILITY: Check = (lambda value: 0 <= value <= 1, "set it to at least 0, at most 1")
_DEVIATION: Check = (lambda value: value >= 0, "set it to 0 or more")


def check_augmentation(config: ConfigDict) -> None:
    """Checks the sections `augment` and `augment_view2`.

    Args:
      config: the run's configuration.

    Raises:
      UsageError: if the kind of views is unknown, or a field of it is missing or out of
        range. The message names the field and the remedy.
    """
    kind = config.augment.get("kind")
    fields = choose("config.augment.kind", kind, KINDS).settings._fields
    missing = [name for name in fields if name not in config.augment]
    if missing:
        raise UsageError(
            f"config.augment.kind={kind} needs the fields {', '.join(missing)}, which "
            "this config file does not have"
        )
    for section in ("augment", "augment_view2"):
        for name, value in config[section].items():
            if name in fields:
                _check(f"config.{section}.{name}", name, value)


def _check(flag: str, name: str, value: Any) -> None:
    default = _PROBABILITY if name.endswith("_probability") else _DEVIATION
    holds, remedy = _RANGES.get(name, default)
    if not holds(value):
        raise UsageError(f"{flag}={value}: {remedy}")


def _is_range(value: Sequence[float]) -> bool:
    return len(value) == 2 and value[0] <= value[1]
