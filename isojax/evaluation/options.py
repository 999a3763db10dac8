"""Options of an evaluation, and their parsing from flags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from isojax.data import check_validation_fraction
from isojax.errors import UsageError
from isojax.evaluation.protocols import DEFAULT_PROTOCOLS, PROTOCOLS, find_protocol
from isojax.fields import FOLDER

ALL_STEPS: Literal["all"] = "all"
_DATA_FIELDS = (
    "name",
    "folder",
    "resolution",
    "train_split",
    "evaluation_split",
    "validation_fraction",
)


class Options(NamedTuple):
    """What an evaluation measures.

    Attributes:
      protocols: names in `isojax.evaluation.protocols.PROTOCOLS`.
      label_fractions: fractions of the labelled training images that classifiers are
        trained on, in (0, 1].
      steps: the checkpoints of the curve over training, ascending, or "all"; None for
        the newest checkpoint alone.
      data: fields of the config's section `data`, for evaluation on other images.
      raw_pixels: whether to measure the baseline of raw pixels; None to measure it
        unless the training images are too many, as `measure_run` describes.
    """

    protocols: tuple[str, ...] = DEFAULT_PROTOCOLS
    label_fractions: tuple[float, ...] = (1.0,)
    steps: tuple[int, ...] | Literal["all"] | None = None
    data: Mapping[str, Any] = {}
    raw_pixels: bool | None = None


def parse_protocols(text: str) -> tuple[str, ...]:
    """Parses comma-separated names of protocols.

    Returns:
      The names in the order of `PROTOCOLS`.

    Raises:
      UsageError: if a protocol does not exist.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        try:
            find_protocol(name)
        except UsageError as error:
            raise UsageError(f"--protocol={text}: {error}") from error
    return tuple(name for name in PROTOCOLS if name in names)


def parse_fractions(text: str) -> tuple[float, ...]:
    """Parses comma-separated fractions and returns them in ascending order.

    Raises:
      UsageError: if one is not a number above 0 and at most 1.
    """
    fractions = set()
    for part in text.split(","):
        try:
            fraction = float(part)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction <= 1:
            raise UsageError(
                f"--label_fractions={text}: {part!r} is not above 0 and at most 1; "
                "write fractions such as 0.01,0.1,1"
            )
        fractions.add(fraction)
    return tuple(sorted(fractions))


def parse_steps(text: str | None) -> tuple[int, ...] | Literal["all"] | None:
    """Parses comma-separated steps and returns them in ascending order.

    Returns:
      The steps; "all" and None are returned unchanged.

    Raises:
      UsageError: if one is not a nonnegative integer.
    """
    if text is None:
        return None
    if text == ALL_STEPS:
        return ALL_STEPS
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--steps={text}: write all, or the steps of checkpoints, such as 100,200"
        )
    return tuple(sorted({int(part) for part in parts}))


def check_data_fields(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Checks that an evaluation may change the overridden fields of a config.

    Args:
      overrides: values by dotted name, such as `data.name`.

    Returns:
      The values by their names in section `data`.

    Raises:
      UsageError: if a field cannot be changed in an evaluation, or a value is out of
        range.
    """
    allowed = [f"data.{name}" for name in _DATA_FIELDS]
    for name in overrides:
        if name not in allowed:
            raise UsageError(
                f"--config.{name} belongs to the trained encoder and is fixed; "
                f"an evaluation can set only {', '.join(allowed)}"
            )
    fields = {name.removeprefix("data."): value for name, value in overrides.items()}
    check_validation_fraction(fields.get("validation_fraction", 0.0))
    if fields.get("folder"):
        if "name" in fields:
            raise UsageError(
                f"--config.data.name={fields['name']} and --config.data.folder="
                f"{fields['folder']} both choose images; leave one of them out"
            )
        return fields | {
            "name": FOLDER,
            "folder": str(Path(fields["folder"]).expanduser().absolute()),
        }
    if "name" in fields:
        return fields | {"folder": ""}
    return fields
