"""Which diagnostic predicts the accuracy: their correlation over a sweep's runs."""

from collections.abc import Sequence

import numpy as np

from isojax.sweeps.rows import Row

_NAMES = {
    "participation_ratio": "participation ratio of the projections",
    "effective_rank": "RankMe",
    "alpha_req": "α-ReQ",
    "nesum": "NESum",
    "lidar": "LiDAR",
}
_LEAST_RUNS = 4


def as_markdown(rows: Sequence[Row]) -> str:
    """Returns a table of the rank correlation of each diagnostic with the accuracy.

    Args:
      rows: the rows of a sweep's runs. Those without an accuracy are left out.

    Returns:
      A Markdown table with a line for each diagnostic, and a note.
    """
    lines = [
        "| diagnostic in the last epoch | Spearman's ρ with linear | p | runs |",
        "| --- | --- | --- | --- |",
    ]
    for field, name in _NAMES.items():
        pairs = np.array(
            [
                (value, row.linear)
                for row in rows
                if row.linear is not None and (value := getattr(row, field)) is not None
            ]
        ).reshape(-1, 2)
        lines.append(f"| {name} | {_correlation(pairs)} | {len(pairs)} |")
    return "\n".join(lines) + (
        "\n\n- p is the probability of a correlation at least as strong without any "
        "relation. A dash: not measured,\n  constant, or fewer than "
        f"{_LEAST_RUNS} runs.\n"
    )


def _correlation(pairs: np.ndarray) -> str:
    """Returns the correlation of two columns and its p-value, as two cells."""
    if len(pairs) < _LEAST_RUNS or (np.ptp(pairs, axis=0) == 0).any():
        return "– | –"
    from scipy.stats import spearmanr  # takes a second to import

    found = spearmanr(pairs[:, 0], pairs[:, 1])
    return f"{found.statistic:.2f} | {found.pvalue:.2g}"
