"""Prepares the report of one run for the template `run.html`."""

import json
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from isojax.fields import data_name
from isojax.reporting import charts
from isojax.reporting.accuracy_tables import (
    accuracy_table,
    evaluate_command,
    fractions_table,
)
from isojax.reporting.alerts import alerts_of
from isojax.reporting.charts import Line
from isojax.reporting.differences import defaults_of, flat
from isojax.reporting.samples import confusion, embedding, neighbours, views
from isojax.reporting.svg import with_name
from isojax.reporting.theory import predict, unsupported_reason
from isojax.runs import layout
from isojax.runs.backbone_text import describe_backbone
from isojax.runs.config_file import changed_fields
from isojax.runs.stored_run import StoredRun

# Titles and notes of the charts of the metrics of the features.
FEATURE_METRICS = {
    layout.EFFECTIVE_RANK: ("Effective rank", "of the features"),
    layout.SPECTRUM_EXPONENT: ("α-ReQ", "decay of the features' spectrum"),
    layout.EIGENVALUE_SUM: ("NESum", "eigenvalues relative to the largest"),
    layout.LIDAR: ("LiDAR", "rank of the differences between images"),
}


class Chart(NamedTuple):
    """A drawing with its title and a note."""

    title: str
    svg: Markup
    note: str = ""

    @property
    def named_svg(self) -> Markup:
        """The drawing, named for screen readers by title and note."""
        name = f"{self.title}, {self.note}" if self.note else self.title
        return with_name(self.svg, f"Chart: {name}")


def run_page(run: StoredRun) -> dict[str, Any]:
    """Returns the fields of the template."""
    method, data = run.config["method"], run.config["data"]
    return {
        "title": f"{run.config['preset']} on {data['name']}",
        "subtitle": (
            f"{run.folder}: {method['form']} {method['metric']} loss, predictor "
            f"{method['predictor']}, target {method['target']}, "
            f"{run.last['epoch']:,} epochs, {run.last['step']:,} steps, seed "
            f"{run.config['seed']}"
        ),
        "alerts": alerts_of(run),
        "numbers": _numbers(run),
        "accuracy": accuracy_table(run.evaluation),
        "fractions": fractions_table(run.evaluation),
        "accuracy_charts": _accuracy_charts(run),
        "evaluate": evaluate_command(run),
        "facts": _facts(run),
        "changes": _changes(run),
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "learning": _learning(run),
        "spectrum": _spectrum(run),
        "theory": _theory(run),
        "views": views(run.views),
        "neighbours": neighbours(run.evaluation_arrays),
        "embedding": [Chart(*chart) for chart in embedding(run)],
        "confusion": confusion(run.evaluation_arrays),
    }


def _numbers(run: StoredRun) -> list[dict[str, str]]:
    numbers = {
        f"{name} accuracy": f"{value:.1%}"
        for name, value in list(run.evaluation.pretrained.items())[:2]
    }
    accuracy = run.history.last_value(layout.ONLINE_ACCURACY)
    if not numbers and accuracy is not None:
        numbers["accuracy of the online probe"] = f"{accuracy:.1%}"
    for name, words in {
        layout.PARTICIPATION_RATIO: f"participation ratio, of {run.spectrum.shape[1]}",
        layout.EFFECTIVE_RANK: "effective rank of the features",
        layout.IMAGES_PER_SECOND: "images per second",
    }.items():
        value = run.history.last_value(name)
        if isinstance(value, float):
            digits = 0 if name.endswith("second") else 1
            numbers[words] = f"{value:,.{digits}f}"
    return [{"words": words, "value": value} for words, value in numbers.items()]


def _facts(run: StoredRun) -> list[tuple[str, str]]:
    config, machine = run.config, run.machine
    data, method, optimizer = (config[key] for key in ("data", "method", "optimizer"))
    predictor = method["predictor"]
    if predictor == "directpred":
        predictor += f", α = {method['alpha']:g}, ε = {method['epsilon']:g}"
        predictor += ", normalised" if method["normalize"] else ""
    target = method["target"]
    if target == "ema":
        target += f", τ₀ = {method['target_decay']:g}"
    facts = {
        "data": f"{data_name(data)}, {data['pretrain_split']}, "
        f"{data['resolution']} pixels per side",
        "loss": f"{method['form']}, {method['metric']} metric, stop-gradient "
        f"{'on' if method['stop_gradient'] else 'off'}",
        "predictor": predictor,
        "target": target,
        "views": str(config["augment"].get("kind", "")),
        "network": f"{describe_backbone(config['model'])}, projections of "
        f"{config['model']['projection_dim']}",
        "optimiser": f"{optimizer['name']}, learning rate "
        f"{optimizer['learning_rate']:g}, weight decay {optimizer['weight_decay']:g}",
        "length": f"epoch {run.last['epoch']:,} of {config['epochs']:,}, step "
        f"{run.last['step']:,} of {run.total_steps:,}, batch {config['batch_size']}",
        "seed": str(config["seed"]),
        "device": "unknown",
        "checkpoints": ", ".join(f"{step:,}" for step in run.checkpoints) or "none",
    }
    if machine:
        facts["device"] = f"{machine.get('devices', '?')} × {machine.get('device')}"
        if machine.get("device") != machine.get("backend"):
            facts["device"] += f" ({machine.get('backend')})"
        facts["versions"] = ", ".join(
            f"{name} {machine[name]}"
            for name in ("isojax", "jax", "python")
            if name in machine
        )
    origin = config.get("forked_from")
    if origin:
        facts["forked from"] = f"{origin.get('workdir')}, step {origin.get('step')}"
    return list(facts.items())


def _changes(run: StoredRun) -> dict[str, Any] | None:
    found = defaults_of(run.config)
    if found is None:
        return None
    origin, defaults = found
    changed = changed_fields(defaults, flat(run.config))
    rows = [(name, default, value) for name, (default, value) in changed.items()]
    return {"origin": origin, "rows": rows}


def _learning(run: StoredRun) -> list[Chart]:
    dim = run.spectrum.shape[1]
    panels = [
        (layout.LOSS, "Loss", "summed over both view orders", {}),
        (
            layout.ONLINE_ACCURACY,
            "Online accuracy",
            "of a linear probe, on evaluation images",
            run.evaluation.linear_baselines,
        ),
        (
            layout.STD,
            "Spread of projections",
            "standard deviation, normalised to length 1",
            {"1/√M": dim**-0.5},
        ),
        (
            layout.VIEW_SIMILARITY,
            "Cosine similarity of the views",
            "of their projections",
            {},
        ),
        (layout.GRADIENT_NORM, "Gradient norm", "mean of the epoch", {}),
        (layout.LEARNING_RATE, "Learning rate", "mean of the epoch", {}),
    ]
    return [
        Chart(title, svg, note)
        for name, title, note, references in panels
        if (svg := metric_curve([(run, 0)], name, references=references)) is not None
    ]


def metric_curve(
    runs: list[tuple[StoredRun, int]],
    name: str,
    *,
    log: bool = False,
    references: dict[str, float] | None = None,
) -> Markup | None:
    """Draws a metric of runs.

    Args:
      runs: runs and the numbers of their colours.
      name: name of the metric.
      log: whether the vertical axis is logarithmic.
      references: values by name, which are drawn as horizontal lines.

    Returns:
      The drawing; None if no run has the metric.
    """
    lines = [
        Line(run.epochs, values, series)
        for run, series in runs
        if (values := run.column(name)) is not None
    ]
    if not lines:
        return None
    return charts.curves(lines, log=log, references=references)


def _accuracy_charts(run: StoredRun) -> list[Chart]:
    """Draws the accuracies of several checkpoints, if they were evaluated."""
    points = run.evaluation.curve
    epochs = np.array([point.step for point in points]) / run.steps_per_epoch
    found = []
    for name in points[-1].accuracies if points else ():
        values = [point.accuracies.get(name, np.nan) for point in points]
        svg = charts.curves([Line(epochs, np.array(values))])
        found.append(Chart(f"{name} accuracy of checkpoints", svg))
    return found


def _spectrum(run: StoredRun) -> list[Chart]:
    epochs, spectrum = run.epochs, run.spectrum
    found = [
        Chart("All eigenvalues", charts.spectrum_lines(epochs, spectrum), "log scale"),
        Chart(
            "The same as an image", charts.spectrum_image(epochs, spectrum), "log scale"
        ),
    ]
    ratio = metric_curve(
        [(run, 0)],
        layout.PARTICIPATION_RATIO,
        log=True,
        references={"all modes equal": spectrum.shape[1], "one mode": 1.0},
    )
    if ratio is not None:
        found.append(Chart("Participation ratio", ratio, "how many modes are used"))
    for name, (title, note) in FEATURE_METRICS.items():
        if (curve := metric_curve([(run, 0)], name)) is not None:
            found.append(Chart(title, curve, note))
    return found


def _theory(run: StoredRun) -> dict[str, Any]:
    reason = unsupported_reason(run)
    theory = predict(run) if reason is None else None
    if theory is None:
        unsolved = "The flow from this spectrum diverges, or is too stiff to solve."
        return {"charts": [], "unsupported_reason": reason or unsolved}
    return {
        "charts": [
            Chart(
                "Some eigenvalues"
                + (", relative to the largest" if theory.problem.is_relative else ""),
                charts.theory_lines(theory),
                "solid: measured; dashed: the flow",
            )
        ],
        "flow": theory.problem.flow,
        "start": int(theory.problem.epochs[0]),
        "rate": f"{theory.rate:.2g}",
    }
