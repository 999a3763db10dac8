"""How well the population flow of a linear network predicts the spectra of a sweep.

    python -m benchmarks.theory_agreement --workdir=DIR

The flow of the run's loss starts from the eigenvalues after the second epoch. Only its
rate is fitted, one number per run. Prints a Markdown table; all columns are means over
the runs of a method, and all but the last compare modes, which are followed by their
eigenvectors:

  order    Spearman correlation of the eigenvalues after the second and the last epoch.
           It is 1 if no mode overtakes another, as in the flow.
  growth   Spearman correlation of the modes' growth with the growth in the flow
  error    root mean square of the difference in the logarithms of the eigenvalues,
           over epochs and modes
  no flow  the same if every eigenvalue kept its first value
  sorted   the error of the sorted eigenvalues, which may exchange their modes

Modes below 2e-6 of the largest eigenvalue in the first or the last epoch compared,
where the spectrum is rounding error, are left out of the correlations.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from isojax.reporting.flow_fit import FLOOR, FlowProblem, fit_in_child_process
from isojax.reporting.theory import flow_problem, unsupported_reason
from isojax.runs.stored_run import StoredRun, read_run
from isojax.sweeps.rows import FINISHED, read_row, runs_in
from isojax.sweeps.summary import group_rows

_HEADER = "| method | EMA | runs | order | growth | error | no flow | sorted |"


class Agreement(NamedTuple):
    """The columns of the table, for one run."""

    order: float
    growth: float
    error: float
    no_flow: float
    sorted: float


def measure_agreement(run: StoredRun) -> Agreement:
    """Solves the flow of a run and compares it with the run's modes.

    Args:
      run: a run with tracked modes for which `unsupported_reason` returns None.

    Returns:
      The run's columns of the table.

    Raises:
      FloatingPointError: if the flow cannot be solved.
    """
    modes = flow_problem(run, np.stack(run.history.tracked))
    measured, predicted = np.log(modes.measured), _predict(modes)
    growth, expected = measured[-1] - measured[0], predicted[-1] - predicted[0]
    largest = modes.measured.max(axis=1, keepdims=True)
    is_seen = (modes.measured > 2 * FLOOR * largest)[[0, -1]].all(axis=0)
    ascending = flow_problem(run, run.spectrum)
    return Agreement(
        order=_rank_correlation(measured[0], measured[-1], is_seen),
        growth=_rank_correlation(expected, growth, is_seen),
        error=_root_mean_square(predicted - measured),
        no_flow=_root_mean_square(measured[0] - measured),
        sorted=_root_mean_square(_predict(ascending) - np.log(ascending.measured)),
    )


def _predict(problem: FlowProblem) -> np.ndarray:
    return np.log(fit_in_child_process(problem)["predicted"])


def _rank_correlation(x: np.ndarray, y: np.ndarray, is_used: np.ndarray) -> float:
    x, y = x[is_used], y[is_used]
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(spearmanr(x, y).statistic)


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def main() -> None:
    """Prints the table, and the reason for each method or run that is left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--workdir", type=Path, required=True, help="the sweep's folder"
    )
    directory = parser.parse_args().workdir
    runs = runs_in(directory)
    if not runs:
        parser.error(f"--workdir={directory} is not a sweep; isojax sweep creates one")
    notes: dict[str, None] = {}  # a set that keeps its order
    print(_HEADER)
    print("|" + " --- |" * (_HEADER.count("|") - 1))
    for group in group_rows([read_row(directory, run) for run in runs]):
        found = []
        for row in group.rows:
            if row.status != FINISHED:
                notes[f"- {row.folder}: {row.status}."] = None
                continue
            run = read_run(directory / row.folder)
            result = _agreement_or_reason(run)
            if isinstance(result, Agreement):
                found.append(result)
            else:
                notes[f"- {group.title}, EMA: {group.ema}: {result}"] = None
        if found:
            cells = [f"{value:.2f}" for value in np.mean(found, axis=0)]
            first = [group.title, group.ema, str(len(found))]
            print(f"| {' | '.join(first + cells)} |", flush=True)
    if notes:
        print("\n" + "\n".join(notes))


def _agreement_or_reason(run: StoredRun) -> Agreement | str:
    if reason := unsupported_reason(run):
        return reason
    if not run.history.is_tracked:
        return "The modes were not tracked (config.logging.tracked_modes)."
    try:
        return measure_agreement(run)
    except FloatingPointError as error:
        return f"{error}."


if __name__ == "__main__":
    main()
