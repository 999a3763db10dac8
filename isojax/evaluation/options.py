"""What may be asked of an evaluation, read from the text of flags."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from isojax.data import check_validation_fraction
from isojax.errors import UsageError

PROTOCOLS = ("linear", "knn", "finetune", "online")
DEFAULT_PROTOCOLS = ("linear", "knn")
ALL_STEPS = "all"
_DATA_FIELDS = (
    "name",
    "resolution",
    "train_split",
    "evaluation_split",
    "validation_fraction",
)


class Options(NamedTuple):
    """What is evaluated, beside the baselines.

    Attributes:
      protocols: of `PROTOCOLS`.
      label_fractions: parts of the labelled training images that classifiers are
        trained on, in (0, 1].
      steps: checkpoints of the curve over training, ascending, or "all"; None for the
        newest alone.
      data: fields of the config's section `data` that are otherwise than in the run.
    """

    protocols: tuple[str, ...] = DEFAULT_PROTOCOLS
    label_fractions: tuple[float, ...] = (1.0,)
    steps: tuple[int, ...] | str | None = None
    data: Mapping[str, Any] = {}


def parse_protocols(text: str) -> tuple[str, ...]:
    """The protocols that a comma separated text names.

    Raises:
      UsageError: if one does not exist.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PROTOCOLS:
            raise UsageError(
                f"--protocol={text}: there is no protocol {name!r}; choose among "
                f"{', '.join(PROTOCOLS)}"
            )
    return tuple(name for name in PROTOCOLS if name in names)


def parse_fractions(text: str) -> tuple[float, ...]:
    """The fractions in a comma separated text, ascending.

    Raises:
      UsageError: if one is no number above 0 and at most 1.
    """
    fractions = set()
    for part in text.split(","):
        try:
            fraction = float(part)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction <= 1:
            raise UsageError(
                f"--label_fractions={text}: {part!r} is no fraction; choose above 0 "
                "and at most 1, such as 0.01,0.1,1"
            )
        fractions.add(fraction)
    return tuple(sorted(fractions))


def parse_steps(text: str | None) -> tuple[int, ...] | str | None:
    """The steps in a comma separated text, ascending, or "all", or None.

    Raises:
      UsageError: if one is no step.
    """
    if text is None or text == ALL_STEPS:
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--steps={text}: write all, or steps of checkpoints, such as 100,200"
        )
    return tuple(sorted({int(part) for part in parts}))


def check_data_fields(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of section `data` among overridden fields of a config.

    Args:
      overrides: values by dotted name, such as `data.name`.

    Raises:
      UsageError: if a field is not one that an evaluation may change, or out of range.
    """
    allowed = [f"data.{name}" for name in _DATA_FIELDS]
    for name in overrides:
        if name not in allowed:
            raise UsageError(
                f"--config.{name} belongs to the trained encoder; in evaluation "
                f"{', '.join(allowed)} can be set"
            )
    fields = {name.removeprefix("data."): value for name, value in overrides.items()}
    check_validation_fraction(fields.get("validation_fraction", 0.0))
    return fields
