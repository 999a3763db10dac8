"""Averages over seeds, and which of them stands out."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isojax.sweeps.rows import COLLAPSED, FINISHED, UNFINISHED, Row

# Ahead by so many standard errors of the difference, of so many runs each. With three
# runs this is about the 5 % level of a t-test; with fewer nothing can be said.
_STANDARD_ERRORS = 3.0
_LEAST_RUNS = 3

_METHODS = {
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "directpred": "DirectPred",
    "directcopy": "DirectCopy",
    "isoloss": "IsoLoss, cosine",
    "isoloss_euclidean": "IsoLoss, Euclidean",
}
# With the same target the two are one method.
_SAME_METHOD = {
    "yes": "BYOL (= SimSiam with EMA)",
    "no": "SimSiam (= BYOL without EMA)",
}
_OFFICIAL = "official_"


class Group(NamedTuple):
    """The runs of one method with one target, over seeds.

    Attributes:
      method: a preset without its ending.
      ema: "yes" or "no".
      rows: of the runs that are over.
    """

    method: str
    ema: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The method's name for people."""
        name = self.method.removeprefix(_OFFICIAL)
        title = _METHODS.get(name, name)
        if name in ("byol", "simsiam"):
            title = _SAME_METHOD[self.ema]
        return title + (", official recipe" if name != self.method else "")

    @property
    def runs(self) -> str:
        """How many runs are over, and what went wrong in how many."""
        failed = Counter(row.status for row in self.rows if row.status != FINISHED)
        failures = ", ".join(f"{count} {status}" for status, count in failed.items())
        return str(len(self.rows)) + (f" ({failures})" if failures else "")

    def values(self, column: str) -> list[float]:
        """The values of a column, where there are any."""
        values = [getattr(row, column) for row in self.rows]
        return [value for value in values if value is not None]


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Groups rows by method and target, in the order of the presets, EMA first."""
    known = [*_METHODS, *(_OFFICIAL + name for name in _METHODS)]

    def order(key: tuple[str, str]) -> tuple[int, str, bool]:
        method, ema = key
        place = known.index(method) if method in known else len(known)
        return place, method, ema == "no"

    over = [row for row in rows if row.status != UNFINISHED]
    keys = sorted({(row.method, row.ema) for row in over}, key=order)
    return [
        Group(*key, tuple(row for row in over if (row.method, row.ema) == key))
        for key in keys
    ]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation, the latter with n - 1 and None for one value.

    Args:
      values: at least one.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def find_best(groups: Sequence[Group], column: str) -> Group | None:
    """The group with the highest mean, if it stands out from every other one.

    Args:
      groups: of one table.
      column: of `Row`, where more is better.

    Returns:
      The group, or None where the runs are too few, or too much alike, to say.
    """
    compared = [group for group in groups if group.values(column)]
    if len(compared) < 2:
        return None
    if min(len(group.values(column)) for group in compared) < _LEAST_RUNS:
        return None
    statistics = {
        group: (mean_and_deviation(group.values(column)), len(group.values(column)))
        for group in compared
    }
    best = max(compared, key=lambda group: statistics[group][0][0])
    (mean, deviation), count = statistics.pop(best)
    for (other_mean, other_deviation), other_count in statistics.values():
        error = math.sqrt(deviation**2 / count + other_deviation**2 / other_count)
        if mean - other_mean <= _STANDARD_ERRORS * error:
            return None
    return best


def describe_rules(groups: Sequence[Group], *, has_best: bool) -> str:
    """What the numbers and marks of a table mean."""
    text = "Means ± standard deviations (n - 1) over seeds."
    statuses = {row.status for group in groups for row in group.rows}
    if COLLAPSED in statuses:
        text += " Collapsed runs are part of the means."
    if statuses - {FINISHED, COLLAPSED}:
        text += " Diverged and crashed runs are not part of the means."
    if has_best:
        text += (
            f" Bold: ahead of every other row by more than {_STANDARD_ERRORS:.0f} "
            "standard errors of the difference."
        )
    return text
