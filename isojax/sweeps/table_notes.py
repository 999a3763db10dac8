"""Notes below a sweep's table: how its numbers were obtained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from isojax.fields import data_name
from isojax.runs import layout
from isojax.runs.backbone_text import describe_backbone
from isojax.runs.config_file import load_config
from isojax.runs.evaluation_result import (
    LINEAR,
    RANDOM_INIT,
    RAW_PIXELS,
    EvaluationResult,
    knn,
)
from isojax.runs.stored_run import read_result
from isojax.sweeps.rows import Row
from isojax.sweeps.run_log import read_json
from isojax.sweeps.summary import mean_and_deviation


def describe_runs(directory: Path, rows: Sequence[Row]) -> list[str]:
    """Describes how the numbers of a table were obtained.

    Args:
      directory: the sweep's folder.
      rows: the rows of its runs.

    Returns:
      Notes on pretraining, evaluation and hardware; none if no run is evaluated.
    """
    evaluated = [row for row in rows if row.linear is not None]
    if not evaluated:
        return []
    configs = {row: load_config(directory / row.folder) for row in evaluated}
    results = [read_result(directory / row.folder) for row in evaluated]
    lines = [_pretraining(configs), _readout(configs, results)]
    hardware = {
        _hardware(read_json(path))
        for row in evaluated
        if (path := directory / row.folder / layout.MACHINE_FILE).exists()
    }
    if hardware:
        lines.append(
            f"Hardware: {' or '.join(sorted(hardware))}. The seconds include training "
            "and evaluation."
        )
    return lines


def _hardware(machine: dict[str, Any]) -> str:
    """Describes JAX's devices, such as "1 NVIDIA H100 80GB HBM3" or "2 CPU cores"."""
    if machine["backend"] == "cpu":
        cores = machine.get("cpu_cores", "?")
        return f"{cores} CPU core{'' if cores == 1 else 's'}"
    return f"{machine['devices']} {machine['device']}"


def _pretraining(configs: dict[Row, ConfigDict]) -> str:
    def of(get: Callable[[ConfigDict], Any]) -> str:
        return _by_target(configs, get)

    averaged = {row: config for row, config in configs.items() if row.ema == "yes"}
    target = (
        f"moving average from τ = {_by_target(averaged, _target_decay)}; "
        if averaged
        else ""
    )
    return (
        f"Data: {of(lambda c: data_name(c.data))}, pretrained without labels on its "
        f"split {of(lambda c: c.data.pretrain_split)}"
        f"{', less the held-out images' if _holds_out(configs) else ''}. "
        f"Recipe: {of(lambda c: c.epochs)} epochs, batch {of(lambda c: c.batch_size)}, "
        f"{of(lambda c: c.optimizer.name.upper())} with learning rate "
        f"{of(lambda c: c.optimizer.learning_rate)} after a warmup of "
        f"{of(lambda c: c.optimizer.warmup_epochs)} epochs, momentum "
        f"{of(lambda c: c.optimizer.momentum)}, weight decay "
        f"{of(lambda c: c.optimizer.weight_decay)}; {target}"
        f"{of(lambda c: describe_backbone(c.model))}; "
        f"{of(lambda c: c.augment.kind)} views."
    )


def _readout(configs: dict[Row, ConfigDict], results: list[EvaluationResult]) -> str:
    first = results[0]
    split = first.split
    if _holds_out(configs):
        fraction = next(iter(configs.values())).data.validation_fraction
        split = f"{split} (held out, {fraction:g} of the training images)"

    temperature = first.knn_temperature
    votes = "" if temperature is None else f" (temperature {temperature:g})"

    def means(encoder: str) -> str:
        measured = [result.accuracies[encoder] for result in results]
        found = [
            mean_and_deviation([a[name] for a in measured if name in a])[0]
            for name in (LINEAR, knn(20))
        ]
        return " and ".join(f"{mean:.3f}" for mean in found)

    has_pixels = any(LINEAR in result.accuracies[RAW_PIXELS] for result in results)
    pixels = f", raw pixels {means(RAW_PIXELS)}" if has_pixels else ""

    return (
        f"Readout: a linear classifier on frozen features of {first.num_train:,} "
        f"labelled images, its penalty chosen on {first.penalty_chosen_on}, and "
        f"20-NN{votes}; accuracies on {first.num_test:,} images, split {split}. "
        f"A random encoder has {means(RANDOM_INIT)}{pixels}."
    )


def _target_decay(config: ConfigDict) -> float:
    return config.method.target_decay


def _holds_out(configs: dict[Row, ConfigDict]) -> bool:
    return any(config.data.validation_fraction > 0 for config in configs.values())


def _by_target(configs: dict[Row, ConfigDict], get: Callable[[ConfigDict], Any]) -> str:
    """Describes a field's values, by target if they depend on the target alone."""

    def values(*targets: str) -> list[str]:
        found = {get(config) for row, config in configs.items() if row.ema in targets}
        return [f"{v:g}" if isinstance(v, float) else str(v) for v in sorted(found)]

    everywhere, with_ema, without = values("yes", "no"), values("yes"), values("no")
    if len(everywhere) > 1 and len(with_ema) == len(without) == 1:
        return f"{with_ema[0]} (EMA) or {without[0]} (no EMA)"
    return " or ".join(everywhere)
