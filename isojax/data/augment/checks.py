"""What the config sections of the views may hold."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from isojax.data.augment.views import KINDS
from isojax.errors import UsageError

_CROP = ("crop_scale", "crop_ratio")
_FIELDS = {
    "simclr": (
        *_CROP,
        "flip_probability",
        "jitter_probability",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "grayscale_probability",
        "blur_probability",
        "blur_sigma",
        "solarize_probability",
    ),
    "affine": (
        *_CROP,
        "rotation",
        "log_scale",
        "log_aspect",
        "shear",
        "shift",
        "brightness",
        "contrast",
    ),
}
_RANGES = {
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
        "set it to at least 0, at most 0.5, half the colour circle",
    ),
    # Beyond these an affine map leaves nothing of the image in the view.
    "rotation": (lambda value: 0 <= value <= 180, "set it to at least 0, at most 180"),
    "shift": (lambda value: 0 <= value <= 1, "set it to at least 0, at most 1"),
    "shear": (lambda value: 0 <= value <= 5, "set it to at least 0, at most 5"),
    "log_scale": (lambda value: 0 <= value <= 3, "set it to at least 0, at most 3"),
    "log_aspect": (lambda value: 0 <= value <= 3, "set it to at least 0, at most 3"),
}
_PROBABILITY = (lambda value: 0 <= value <= 1, "set it to at least 0, at most 1")
_DEVIATION = (lambda value: value >= 0, "set it to 0 or more")


def check_augmentation(config: ConfigDict) -> None:
    """Refuses sections `augment` and `augment_view2` that views cannot be made of.

    Args:
      config: of a run.

    Raises:
      UsageError: naming the field and the remedy.
    """
    kind = config.augment.get("kind")
    if kind not in KINDS:
        raise UsageError(
            f"config.augment.kind={kind}: choose one of {', '.join(KINDS)}"
        )
    missing = [name for name in _FIELDS[kind] if name not in config.augment]
    if missing:
        raise UsageError(
            f"config.augment.kind={kind} needs the fields {', '.join(missing)}, which "
            "this config file does not have"
        )
    for section in ("augment", "augment_view2"):
        for name, value in config[section].items():
            if name in _FIELDS[kind]:
                _check(f"config.{section}.{name}", name, value)


def _check(flag: str, name: str, value: object) -> None:
    default = _PROBABILITY if name.endswith("_probability") else _DEVIATION
    holds, remedy = _RANGES.get(name, default)
    if not holds(value):
        raise UsageError(f"{flag}={value}: {remedy}")


def _is_range(value: Sequence[float]) -> bool:
    return len(value) == 2 and value[0] <= value[1]
