"""Averages over seeds, and the method that is significantly better than the others."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isojax.sweeps.rows import COLLAPSED, FINISHED, UNFINISHED, Row

# A method is better if it is ahead by this many standard errors of the difference, with
# at least this many runs each. With three runs this is about the 5 % level of a t-test.
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
# With the same target BYOL and SimSiam are the same method.
_SAME_METHOD = {
    "yes": "BYOL (= SimSiam with EMA)",
    "no": "SimSiam (= BYOL without EMA)",
}
_OFFICIAL = "official_"


class Group(NamedTuple):
    """The runs of one method with one target, over seeds.

    Attributes:
      method: the preset without its ending.
      ema: "yes" if the target is a moving average, otherwise "no".
      rows: the rows of the runs that have ended.
    """

    method: str
    ema: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The name of the method in the tables."""
        name = self.method.removeprefix(_OFFICIAL)
        title = _METHODS.get(name, name)
        if name in ("byol", "simsiam"):
            title = _SAME_METHOD[self.ema]
        return title + (", official recipe" if name != self.method else "")

    @property
    def runs(self) -> str:
        """The number of runs that have ended, and of those that failed."""
        failed = Counter(row.status for row in self.rows if row.status != FINISHED)
        failures = ", ".join(f"{count} {status}" for status, count in failed.items())
        return str(len(self.rows)) + (f" ({failures})" if failures else "")

    def values(self, column: str) -> list[float]:
        """Returns the known values of a column."""
        values = [getattr(row, column) for row in self.rows]
        return [value for value in values if value is not None]


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Groups the rows of ended runs by method and target, in order of the presets."""
    known = [*_METHODS, *(_OFFICIAL + name for name in _METHODS)]

    def order(key: tuple[str, str]) -> tuple[int, str, bool]:
        method, ema = key
        place = known.index(method) if method in known else len(known)
        return place, method, ema == "no"

    ended = [row for row in rows if row.status != UNFINISHED]
    keys = sorted({(row.method, row.ema) for row in ended}, key=order)
    return [
        Group(*key, tuple(row for row in ended if (row.method, row.ema) == key))
        for key in keys
    ]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the standard deviation.

    Args:
      values: at least one value.

    Returns:
      The mean, and the standard deviation with n - 1, which is None for one value.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def find_best(groups: Sequence[Group], column: str) -> Group | None:
    """Returns the group that is significantly better than every other one.

    Args:
      groups: the groups of one table.
      column: a field of `Row`, of which higher values are better.

    Returns:
      The group with the highest mean, or None if the runs are too few or too similar.
    """
    compared = [group for group in groups if group.values(column)]
    if len(compared) < 2:
        return None
    if min(len(group.values(column)) for group in compared) < _LEAST_RUNS:
        return None
    values = {group: np.array(group.values(column)) for group in compared}
    best = max(compared, key=lambda group: values[group].mean())
    for group in compared:
        variances = [values[g].var(ddof=1) / len(values[g]) for g in (best, group)]
        ahead = values[best].mean() - values[group].mean()
        if group != best and ahead <= _STANDARD_ERRORS * math.sqrt(sum(variances)):
            return None
    return best


def describe_rules(groups: Sequence[Group], *, has_best: bool) -> str:
    """Explains the numbers and marks of a table."""
    text = "Means ± standard deviations (n - 1) over seeds."
    statuses = {row.status for group in groups for row in group.rows}
    if COLLAPSED in statuses:
        text += " The means include collapsed runs."
    if statuses - {FINISHED, COLLAPSED}:
        text += " The means exclude diverged and crashed runs."
    if has_best:
        text += (
            f" Bold: ahead of every other row by more than {_STANDARD_ERRORS:.0f} "
            "standard errors of the difference."
        )
    return text
