"""Prepares the comparison of runs for the template `comparison.html`."""

from collections.abc import Sequence
from typing import Any

from isojax.errors import UsageError
from isojax.reporting import charts
from isojax.reporting.accuracy_tables import (
    evaluate_command,
)
from isojax.reporting.alerts import alerts_of
from isojax.reporting.differences import flat
from isojax.reporting.run_page import FEATURE_METRICS, Chart, metric_curve
from isojax.reporting.svg import SERIES_COUNT
from isojax.runs import layout
from isojax.runs.evaluation_result import BASELINES, ENCODERS
from isojax.runs.stored_run import StoredRun

_NOT_COMPARED = ("data.feed", "checkpoint", "evaluate_every_epochs")
_METRICS = {
    "participation ratio": (layout.PARTICIPATION_RATIO, 1),
    "effective rank": (layout.EFFECTIVE_RANK, 1),
    "images/s": (layout.IMAGES_PER_SECOND, 0),
}


def comparison_page(runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Returns the fields of the template.

    Raises:
      UsageError: if the runs have different data sets.
    """
    _check_data(runs)
    data = runs[0].config["data"]["name"]
    columns = list(
        dict.fromkeys(name for run in runs for name in run.evaluation.pretrained)
    )
    return {
        "title": f"{len(runs)} runs on {data}",
        "subtitle": "Accuracies of frozen features; curves of the training.",
        "alerts": [
            f"{run.folder}: {sentence}" for run in runs for sentence in alerts_of(run)
        ],
        "columns": columns,
        "metrics": list(_METRICS),
        "rows": _rows(runs, columns),
        "baselines": _baselines(runs, columns),
        "splits": _splits(runs),
        "unevaluated": [
            evaluate_command(run) for run in runs if not run.evaluation.content
        ],
        "differences": _differences(runs),
        "legend": [
            {
                "name": str(run.folder),
                "series": number % SERIES_COUNT,
                "dash": ("", "dashed", "dotted")[min(number // SERIES_COUNT, 2)],
            }
            for number, run in enumerate(runs)
        ],
        "charts": _charts(runs),
    }


def _check_data(runs: Sequence[StoredRun]) -> None:
    names = {run.config["data"]["name"]: run.folder for run in runs}
    if len(names) > 1:
        described = ", ".join(f"{name} ({folder})" for name, folder in names.items())
        raise UsageError(
            f"the runs have different data sets: {described}; compare runs "
            "of one data set"
        )


def _rows(runs: Sequence[StoredRun], columns: list[str]) -> list[dict[str, Any]]:
    rows = []
    for number, run in enumerate(runs):
        found = run.evaluation.pretrained
        rows.append(
            {
                "series": number % SERIES_COUNT,
                "name": str(run.folder),
                "preset": run.config["preset"],
                "target": run.config["method"]["target"],
                "seed": run.config["seed"],
                "epochs": run.last["epoch"],
                "accuracies": [found.get(column) for column in columns],
                "metrics": [
                    (run.history.last_value(name), digits)
                    for name, digits in _METRICS.values()
                ],
            }
        )
    for place in range(len(columns)):
        values = [row["accuracies"][place] for row in rows]
        best = max(value for value in values if value is not None)
        for row, value in zip(rows, values, strict=True):
            row["accuracies"][place] = (value, value == best)
    return rows


def _baselines(runs: Sequence[StoredRun], columns: list[str]) -> list[dict[str, Any]]:
    """Returns the baselines of the first run that has them; they hardly differ."""
    for run in runs:
        found = [
            {"name": name, "accuracies": [values.get(column) for column in columns]}
            for name, values in (
                (ENCODERS[encoder], run.evaluation.accuracies[encoder])
                for encoder in BASELINES
            )
            if values
        ]
        if found:
            return found
    return []


def _splits(runs: Sequence[StoredRun]) -> str:
    names = {run.evaluation.split for run in runs if run.evaluation.split}
    if len(names) > 1:
        return (
            "The accuracies are measured on different images "
            f"({', '.join(sorted(names))}) and cannot be compared."
        )
    return f"Accuracies on the {names.pop()} images." if names else ""


def _differences(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    fields = [flat(run.config) for run in runs]
    names = sorted({name for each in fields for name in each})
    return [
        {"name": name, "values": [each.get(name, "–") for each in fields]}
        for name in names
        if not name.startswith(_NOT_COMPARED)
        and any(each.get(name) != fields[0].get(name) for each in fields)
    ]


def _charts(runs: Sequence[StoredRun]) -> list[Chart]:
    numbered = [(run, number) for number, run in enumerate(runs)]
    baselines = next(
        (found for run in runs if (found := run.evaluation.linear_baselines)), {}
    )
    panels = [
        (
            layout.ONLINE_ACCURACY,
            "Online accuracy",
            "of a linear probe",
            False,
            baselines,
        ),
        (
            layout.PARTICIPATION_RATIO,
            "Participation ratio",
            "how many modes the projections use",
            True,
            {},
        ),
        *(
            (name, title, note, False, {})
            for name, (title, note) in FEATURE_METRICS.items()
        ),
        (
            layout.LOSS,
            "Loss",
            "not comparable between methods",
            False,
            {},
        ),
        (layout.STD, "Spread of projections", "normalised to length 1", False, {}),
    ]
    drawn = [
        Chart(title, svg, note)
        for name, title, note, log, references in panels
        if (svg := metric_curve(numbered, name, log=log, references=references))
    ]
    spectra = [(run.spectrum[-1], number) for run, number in numbered]
    drawn.append(
        Chart(
            "Last spectrum", charts.sorted_spectra(spectra), "relative to the largest"
        )
    )
    return drawn
