"""Warnings at the top of a run's report."""

import math

import numpy as np
from ml_collections import ConfigDict

from isojax.reporting.accuracy_tables import evaluate_command
from isojax.runs import layout
from isojax.runs.collapse import explain_collapse, is_collapsed
from isojax.runs.evaluation_result import LINEAR, RANDOM_INIT, RAW_PIXELS
from isojax.runs.stored_run import StoredRun


def alerts_of(run: StoredRun) -> list[str]:
    """Returns sentences about divergence, collapse, an early end and a poor encoder."""
    return [*_divergence(run), *_collapse(run), *_end(run), *_encoder(run)]


def _divergence(run: StoredRun) -> list[str]:
    found = []
    # A run that passed this step from an older checkpoint has recovered.
    if run.not_finite and run.not_finite.get("step", 0) > run.last["step"]:
        found.append(
            f"Training diverged in step {run.not_finite['step']:,}: the "
            f"{run.not_finite.get('first', 'numbers')} became non-finite first. "
            "In most cases a lower config.optimizer.learning_rate helps."
        )
    bad = [
        row["epoch"]
        for row in run.history.rows
        if not all(math.isfinite(x) for x in row.values() if isinstance(x, int | float))
    ]
    if bad:
        found.append(f"Metrics of epoch {bad[0]} are not finite.")
    return found


def _collapse(run: StoredRun) -> list[str]:
    dim = run.spectrum.shape[1]
    rows = run.history.rows
    needed = {layout.STD, layout.PARTICIPATION_RATIO}
    collapsed = np.array(
        [needed <= row.keys() and is_collapsed(row, dim) for row in rows]
    )
    # As in training: the previous epoch was collapsed too.
    lasting = np.flatnonzero(collapsed[1:] & collapsed[:-1]) + 1
    if not len(lasting):
        return []
    explanation = explain_collapse(rows[lasting[0]], ConfigDict(run.config["method"]))
    sentence = explanation[0].upper() + explanation[1:]
    if not collapsed[-1]:
        sentence += " It recovered later."
    return [sentence]


def _end(run: StoredRun) -> list[str]:
    if run.last["step"] >= run.total_steps:
        return []
    return [
        f"The run is unfinished: {run.last['step']:,} of {run.total_steps:,} steps. "
        "Repeat the command that started it to continue."
    ]


def _encoder(run: StoredRun) -> list[str]:
    step, accuracy = run.evaluation.step, run.evaluation.pretrained.get(LINEAR)
    found = []
    if step is not None and run.checkpoints and step < run.checkpoints[-1]:
        found.append(
            f"The accuracies are of step {step:,}; the newest checkpoint is of step "
            f"{run.checkpoints[-1]:,}. {evaluate_command(run)} updates them."
        )
    for name, words in (
        (RANDOM_INIT, "the same network before training"),
        (RAW_PIXELS, "the raw pixels"),
    ):
        baseline = run.evaluation.accuracies[name].get(LINEAR)
        if accuracy is not None and baseline is not None and accuracy < baseline:
            found.append(
                f"A linear classifier is more accurate on {words} ({baseline:.1%}) "
                f"than on the trained encoder ({accuracy:.1%})."
            )
    return found
