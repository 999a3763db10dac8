"""Evaluation of a run: its encoder beside two baselines."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np

from isojax.data import Dataset, Split
from isojax.errors import UsageError
from isojax.evaluation.features import extract_features
from isojax.evaluation.finetuning import FineTuned, finetune
from isojax.evaluation.frozen import FeatureSets, measure_frozen
from isojax.evaluation.images import load_images
from isojax.evaluation.knn import TEMPERATURE
from isojax.evaluation.label_fractions import labelled_part
from isojax.evaluation.linear import LinearReadout
from isojax.evaluation.options import ALL_STEPS, Options
from isojax.evaluation.record import save_record
from isojax.evaluation.table import format_table as format_table
from isojax.files import hold_lock, write_atomically
from isojax.output import attempt, say
from isojax.progress import SILENT, Progress
from isojax.reporting.accuracy_tables import ENCODERS
from isojax.runs import layout
from isojax.runs.config_file import load_config
from isojax.training import random_encoder
from isojax.training.encoder import (
    Encoder,
    checkpoint_steps,
    load_encoder_and_step,
    load_probe,
)
from isojax.training.metric_writers import write_accuracies
from isojax.training.probe import probe_logits

_CHOSEN_ON = "a stratified fifth of the training images"


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      result: what is written; see `evaluate_run`.
      dataset: whose images it was measured on.
      sets: the encoder's features.
      readout: the encoder's linear readout, with its predictions on the test images;
        None where that protocol was not asked for.
      finetuned: the encoder fine-tuned on all labels, with its predictions, if asked.
    """

    result: dict[str, Any]
    dataset: Dataset
    sets: FeatureSets
    readout: LinearReadout | None
    finetuned: FineTuned | None


def evaluate_run(
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008 - immutable
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Evaluates a run and writes `linear_eval.json`.

    Evaluations of one run may run at the same time: results are merged and written
    under a lock.

    Args:
      workdir: the run's folder, where `result_file` is written, and `evaluation.npz`
        with what the report shows of it.
      data_dir: folder of the data sets, as in `load_dataset`.
      options: what to measure; by default linear readout and k-NN.
      progress: reports features, fits, searches and trainings; silent by default.

    Returns:
      What is written: `accuracy` (0 to 1), `split` it was measured on, `num_train`,
      `num_test`, `num_test_pretrained` (test images that the encoder was pretrained on,
      if any), the baselines' accuracies, `knn_accuracy` by number of neighbours, with
      `knn_temperature`, and how the penalty was chosen; and of what else was asked for
      `finetune_accuracy`, `online_accuracy`, the lists `label_fractions` and `curve`.
      Results of other protocols in the file are kept if they are of the same
      checkpoint.

    Raises:
      UsageError: if the folder holds no run or no such checkpoint, the images do not
        fit the encoder, or the result cannot be written, which is then printed.
    """
    if Path(workdir).is_dir() and not os.access(workdir, os.W_OK):
        raise UsageError(
            f"--workdir={workdir} cannot be written, so that no result could be kept; "
            "copy the run elsewhere, or change the folder's permissions"
        )
    found = measure_run(workdir, data_dir=data_dir, options=options, progress=progress)
    try:
        with hold_lock(Path(workdir) / layout.EVALUATION_LOCK_FILE):
            return _write(Path(workdir), found, options)
    except OSError as error:
        say(format_table(found.result))  # hours of work may be in it
        raise UsageError(
            f"--workdir={workdir} cannot be written ({error.strerror}), so that the "
            "result was not kept whole; make room, or copy the run elsewhere"
        ) from error


def _write(workdir: Path, found: Evaluation, options: Options) -> dict[str, Any]:
    """Writes what was found, and returns it merged with what the file held before."""
    changes = found.result.get("data", {})
    path = workdir / result_file(changes)
    result = merge_results(_previous(path, found.result), found.result)
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
    if found.readout is not None and not changes:
        attempt(
            lambda: save_record(
                workdir,
                found.dataset,
                found.sets.features,
                found.sets.test_features,
                found.readout,
            ),
            failure=f"{layout.EVALUATION_ARRAYS_FILE} was not written; the report "
            "lacks neighbours and confusions of this evaluation",
        )
    attempt(
        lambda: write_accuracies(
            workdir, load_config(workdir), result, group=path.stem
        ),
        failure="TensorBoard lacks the accuracies",
    )
    if "curve" in result and options.steps is not None:
        picture = f"accuracy{_suffix(changes)}.png"
        attempt(
            lambda: _draw_curve(workdir / layout.FIGURES_FOLDER / picture, result),
            failure=f"{layout.FIGURES_FOLDER}/{picture} was not drawn",
        )
    return result


def _draw_curve(path: Path, result: dict[str, Any]) -> None:
    from isojax.reporting.accuracy_curve import save_accuracy  # with Matplotlib

    path.parent.mkdir(exist_ok=True)
    save_accuracy(path, result)


def result_file(changes: Mapping[str, Any]) -> str:
    """Name of the result's file in the run's folder.

    Args:
      changes: fields of the config's section `data` whose values differ from the run's.

    Returns:
      `linear_eval.json`; with changes also the fields and values, sorted by field, so
      that no two evaluations share a file.
    """
    return f"{layout.RESULT_NAME}{_suffix(changes)}.json"


def _suffix(changes: Mapping[str, Any]) -> str:
    pairs = [f"{k}={quote(str(v), safe='+')}" for k, v in sorted(changes.items())]
    return f"-{','.join(pairs)}" if pairs else ""


def merge_results(previous: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What a file holds and what was found now, row by row where they have rows.

    Args:
      previous: of the file, which other protocols may have written.
      found: counts where both have a value.
    """
    merged = previous | found
    for name, key in (("label_fractions", "fraction"), ("curve", "step")):
        rows = {}
        for row in [*previous.get(name, ()), *found.get(name, ())]:
            rows[row[key]] = rows.get(row[key], {}) | row
        if rows:
            merged[name] = [rows[value] for value in sorted(rows)]
    return merged


def measure_run(
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008
    progress: Progress = SILENT,
) -> Evaluation:
    """Measures what `evaluate_run` writes, and writes nothing.

    The encoder, the run's own before its first step, and raw pixels are measured by the
    same protocols: features of every labelled image once, in evaluation mode; see
    `fit_linear_readout` and `knn_accuracy`. Fine-tuning and the online probe are of the
    pretrained encoder alone. Of several checkpoints the last is measured by every
    protocol, the others by those that do not train the encoder.
    """
    start = time.perf_counter()
    config = load_config(workdir)
    curve_steps = None
    if options.steps is not None:
        wanted = None if options.steps == ALL_STEPS else options.steps
        curve_steps = checkpoint_steps(workdir, wanted)
    apply, variables, step = load_encoder_and_step(
        workdir, curve_steps[-1] if curve_steps else None
    )
    changes = {k: v for k, v in options.data.items() if v != config.data[k]}
    if changes and "online" in options.protocols:
        raise UsageError(
            "--protocol=online is a classifier of the run's own data; leave it out "
            "where --config.data is set"
        )
    dataset, num_pretrained = load_images(config.data, changes, data_dir=data_dir)
    train, test = dataset.train, dataset.evaluation
    result: dict[str, Any] = {
        "step": step,
        "split": dataset.evaluation_name,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
    }
    if changes:
        result["data"] = changes
    if num_pretrained:
        result["num_test_pretrained"] = num_pretrained

    encoders = {"": (apply, variables)}
    if {"linear", "knn"} & set(options.protocols):
        encoders |= {
            "random_init_": random_encoder(workdir),
            "raw_pixel_": (_raw_pixels, {}),
        }
    fractions = [fraction for fraction in options.label_fractions if fraction < 1]
    parts = [labelled_part(train.labels, fraction) for fraction in fractions]
    rows: list[dict[str, Any]] = [
        {"fraction": fraction, "num_train": len(part)}
        for fraction, part in zip(fractions, parts, strict=True)
    ]
    # One encoder after the other: the features of large images fill the memory.
    for prefix, encoder in encoders.items():
        about = progress.about(ENCODERS[prefix])
        sets = _feature_sets(encoder, train, test, about)
        found, readout = measure_frozen(sets, options.protocols, progress=about)
        result |= {prefix + name: value for name, value in found.items()}
        for row, part in zip(rows, parts, strict=True):
            row |= _measure_part(prefix, sets.part(part), options.protocols, about)
        if prefix == "":
            own_sets, own_readout = sets, readout
        del sets
    if "knn" in options.protocols:
        result["knn_temperature"] = TEMPERATURE
    if own_readout is not None:
        result |= {
            "penalty": own_readout.penalty,
            "penalty_chosen_on": _CHOSEN_ON,
            "validation_accuracy": own_readout.validation_accuracy,
            "per_class_accuracy": _per_class(own_readout.predictions, dataset),
        }
    if "online" in options.protocols:
        result["online_accuracy"] = _online_accuracy(workdir, step, own_sets, dataset)
    finetuned = None
    if "finetune" in options.protocols:
        tune = partial(finetune, apply, variables, augment=config.augment)
        if 1.0 in options.label_fractions:
            finetuned = tune(train, test, progress=progress)
            result |= _described(finetuned)
        for row, part in zip(rows, parts, strict=True):
            labelled = Split(train.images[part], train.labels[part])
            row |= _described(tune(labelled, test, progress=progress))
    if options.label_fractions != (1.0,):
        result["label_fractions"] = rows
    if curve_steps:
        result["curve"] = [
            *_curve(workdir, curve_steps[:-1], dataset, options, progress),
            _point(result),
        ]
    result["seconds"] = round(time.perf_counter() - start, 1)
    return Evaluation(result, dataset, own_sets, own_readout, finetuned)


def _feature_sets(
    encoder: Encoder, train: Split, test: Split, progress: Progress
) -> FeatureSets:
    features, test_features = (
        extract_features(*encoder, split.images, progress=progress)
        for split in (train, test)
    )
    return FeatureSets(features, train.labels, test_features, test.labels)


def _measure_part(
    prefix: str, sets: FeatureSets, protocols: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """What a row of `label_fractions` holds of one encoder."""
    found, readout = measure_frozen(sets, protocols, progress=progress)
    if readout is not None:
        found["penalty"] = readout.penalty
    return {prefix + name: value for name, value in found.items()}


def _curve(
    workdir: str | os.PathLike,
    steps: Sequence[int],
    dataset: Dataset,
    options: Options,
    progress: Progress,
) -> list[dict[str, Any]]:
    points = []
    for step in steps:
        about = progress.about(f"step {step:,}")
        apply, variables, _ = load_encoder_and_step(workdir, step)
        sets = _feature_sets(
            (apply, variables), dataset.train, dataset.evaluation, about
        )
        found, _ = measure_frozen(sets, options.protocols, progress=about)
        point = {"step": step} | found
        if "online" in options.protocols:
            point["online_accuracy"] = _online_accuracy(workdir, step, sets, dataset)
        points.append(point)
    return points


def _point(result: dict[str, Any]) -> dict[str, Any]:
    names = ("step", "accuracy", "knn_accuracy", "online_accuracy")
    return {name: result[name] for name in names if name in result}


def _online_accuracy(
    workdir: str | os.PathLike, step: int, sets: FeatureSets, dataset: Dataset
) -> float:
    weights = load_probe(
        workdir, step, features=sets.features.shape[1], classes=dataset.num_classes
    )
    logits = probe_logits(weights, jnp.asarray(sets.test_features))
    return float(np.mean(np.asarray(logits.argmax(axis=-1)) == sets.test_labels))


def _described(finetuned: FineTuned) -> dict[str, Any]:
    return {
        "finetune_accuracy": finetuned.accuracy,
        "finetune_learning_rate": finetuned.learning_rate,
        "finetune_learning_rate_chosen_on": _CHOSEN_ON,
        "finetune_validation_accuracy": finetuned.validation_accuracy,
    }


def _per_class(predictions: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Accuracy by the name of each class that has test images."""
    labels = dataset.evaluation.labels
    return {
        dataset.label_names[label]: float(
            np.mean(predictions[labels == label] == label)
        )
        for label in np.unique(labels)
    }


def _previous(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What the file already holds of the same checkpoint and images."""
    try:
        previous = json.loads(path.read_text())
        same = all(
            previous.get(name) == result.get(name)
            for name in ("step", "data", "split", "num_train", "num_test")
        )
    except (OSError, ValueError, AttributeError):
        return {}
    return previous if same else {}


def _raw_pixels(variables: dict, images: np.ndarray) -> np.ndarray:
    del variables
    return images.reshape(len(images), -1).astype(np.float32)
