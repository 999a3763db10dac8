"""The result of an evaluation, `linear_eval.json`: its file's name, fields and merging.

docs/metrics.md describes the fields.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from zlib import crc32

from isojax.runs import layout

# Evaluated inputs: the prefix of their fields' names, and their names in tables.
PRETRAINED, RANDOM_INIT, RAW_PIXELS = "", "random_init_", "raw_pixel_"
ENCODERS = {
    PRETRAINED: "pretrained encoder",
    RANDOM_INIT: "random encoder",
    RAW_PIXELS: "raw pixels",
}
BASELINES = (RANDOM_INIT, RAW_PIXELS)

# Names of protocols in tables and curves. k-NN is named by its k; see `knn`.
LINEAR, FINE_TUNED, ONLINE_PROBE = "linear", "fine-tuned", "online probe"
_ACCURACY_FIELDS = {
    LINEAR: "accuracy",
    FINE_TUNED: "finetune_accuracy",
    ONLINE_PROBE: "online_accuracy",
}
# Results that differ in one of these fields cannot be merged into one file.
_IDENTITY = ("step", "data", "split", "num_train", "num_test")
_LONGEST_SUFFIX = 150  # characters; file systems limit a name to 255 bytes
# Lists of rows, and the field that identifies a row.
_ROW_KEYS = {"label_fractions": "fraction", "curve": "step"}


def knn(k: int | str) -> str:
    """Returns the name of k-NN in tables and curves."""
    return f"{k}-NN"


class LabelFraction(NamedTuple):
    """Accuracies with part of the labelled images.

    Attributes:
      fraction: the part, above 0 and below 1.
      num_train: the number of labelled images.
      accuracies: accuracies of the pretrained encoder, by protocol.
    """

    fraction: float
    num_train: int
    accuracies: Mapping[str, float]


class CurvePoint(NamedTuple):
    """Accuracies of one checkpoint.

    Attributes:
      step: the checkpoint's step.
      accuracies: accuracies of the encoder, by protocol.
    """

    step: int
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class EvaluationResult:
    """The content of a `linear_eval.json`. A value that is None was not recorded.

    Attributes:
      accuracies: for each of `ENCODERS` the accuracies, 0 to 1, by protocol.
      step: step of the checkpoint.
      split: name of the split that accuracies are measured on.
      num_train: number of labelled training images.
      num_test: number of test images.
      num_test_pretrained: number of test images that the encoder was pretrained on.
      knn_temperature: temperature of the votes of k-NN.
      penalty_chosen_on: how the penalty of the linear classifier was chosen.
      label_fractions: accuracies with part of the labels.
      curve: accuracies of several checkpoints, by ascending step.
      content: all fields as the file has them.
    """

    accuracies: Mapping[str, Mapping[str, float]]
    step: int | None
    split: str | None
    num_train: int | None
    num_test: int | None
    num_test_pretrained: int | None
    knn_temperature: float | None
    penalty_chosen_on: str | None
    label_fractions: tuple[LabelFraction, ...]
    curve: tuple[CurvePoint, ...]
    content: Mapping[str, Any]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EvaluationResult":
        """Converts the fields of the file.

        Raises:
          KeyError: if a row of a list lacks the fields that identify it.
        """
        return cls(
            accuracies={name: _accuracies(content, name) for name in ENCODERS},
            step=content.get("step"),
            split=content.get("split"),
            num_train=content.get("num_train"),
            num_test=content.get("num_test"),
            num_test_pretrained=content.get("num_test_pretrained"),
            knn_temperature=content.get("knn_temperature"),
            penalty_chosen_on=content.get("penalty_chosen_on"),
            label_fractions=tuple(
                LabelFraction(row["fraction"], row["num_train"], _accuracies(row))
                for row in content.get("label_fractions") or ()
            ),
            curve=tuple(
                CurvePoint(row["step"], _accuracies(row))
                for row in content.get("curve") or ()
            ),
            content=content,
        )

    @property
    def pretrained(self) -> Mapping[str, float]:
        """Accuracies of the pretrained encoder, by protocol."""
        return self.accuracies[PRETRAINED]

    @property
    def linear_baselines(self) -> dict[str, float]:
        """Accuracies of the linear classifier without pretraining, by table name."""
        return {
            ENCODERS[name]: self.accuracies[name][LINEAR]
            for name in BASELINES
            if LINEAR in self.accuracies[name]
        }


def result_file(changes: Mapping[str, Any]) -> str:
    """Returns the name of the result's file in the run's folder.

    Args:
      changes: fields of the config's section `data` whose values differ from the run's.

    Returns:
      `linear_eval.json`; with changes, the name also holds the fields and their values,
      sorted by field, so that each evaluation has its own file.
    """
    return f"{layout.RESULT_NAME}{file_suffix(changes)}.json"


def file_suffix(changes: Mapping[str, Any]) -> str:
    """Returns the part of a file's name that identifies the evaluation's data.

    Args:
      changes: as in `result_file`.
    """
    pairs = [f"{k}={quote(str(v), safe='+')}" for k, v in sorted(changes.items())]
    suffix = f"-{','.join(pairs)}" if pairs else ""
    if len(suffix) > _LONGEST_SUFFIX:
        return f"{suffix[:_LONGEST_SUFFIX]}-{crc32(suffix.encode()):08x}"
    return suffix


def merge_results(previous: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Merges two results of one checkpoint; lists are merged row by row.

    Args:
      previous: the stored result, possibly of other protocols.
      found: the new result, whose values replace stored ones.

    Returns:
      The merged result.
    """
    merged = previous | found
    for name, key in _ROW_KEYS.items():
        rows: dict[float, dict[str, Any]] = {}
        for row in [*previous.get(name, ()), *found.get(name, ())]:
            rows[row[key]] = rows.get(row[key], {}) | row
        if rows:
            merged[name] = [rows[value] for value in sorted(rows)]
    return merged


def stored_result(path: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the stored result that a new one can be merged with.

    Args:
      path: the result's file, which may be missing.
      found: the new result.

    Returns:
      The stored result if it is of the same checkpoint and images; otherwise nothing.
    """
    try:
        stored = json.loads(path.read_text())
        is_same = all(stored.get(name) == found.get(name) for name in _IDENTITY)
    except (OSError, ValueError, AttributeError):
        return {}
    return stored if is_same else {}


def _accuracies(fields: Mapping[str, Any], encoder: str = PRETRAINED) -> dict:
    """The accuracies that were recorded, by protocol, linear and k-NN first."""
    found = {LINEAR: fields.get(encoder + _ACCURACY_FIELDS[LINEAR])}
    for k, value in (fields.get(f"{encoder}knn_accuracy") or {}).items():
        found[knn(k)] = value
    for name in (FINE_TUNED, ONLINE_PROBE):
        found[name] = fields.get(encoder + _ACCURACY_FIELDS[name])
    found |= _other_accuracies(fields, encoder)
    return {
        name: value for name, value in found.items() if isinstance(value, int | float)
    }


def _other_accuracies(fields: Mapping[str, Any], encoder: str) -> dict[str, Any]:
    """The accuracies of protocols without a name for tables, by their fields' names."""
    named = {*_ACCURACY_FIELDS.values(), "knn_accuracy"}
    excluded = BASELINES if encoder == PRETRAINED else ()
    found = {}
    for field, value in fields.items():
        name = field.removeprefix(encoder)
        if field.startswith(encoder) and not field.startswith(excluded):
            if name not in named and not name.endswith("validation_accuracy"):
                found[name] = value
    return {
        name.removesuffix("_accuracy"): value
        for name, value in found.items()
        if name.endswith("_accuracy")
    }
