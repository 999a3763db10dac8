"""Evaluation of a run: its encoder beside two baselines."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from isojax.data import Dataset, Split, load_dataset
from isojax.errors import UsageError
from isojax.evaluation.features import extract_features
from isojax.evaluation.finetuning import FineTuned, finetune
from isojax.evaluation.fractions import labelled_part
from isojax.evaluation.frozen import FeatureSets, measure_frozen
from isojax.evaluation.linear import LinearReadout
from isojax.evaluation.options import ALL_STEPS, Options, evaluation_data
from isojax.evaluation.record import RECORD_FILE, save_record
from isojax.evaluation.table import format_table as format_table
from isojax.files import write_atomically
from isojax.output import attempt, say
from isojax.training import random_encoder
from isojax.training.encoder import (
    Encoder,
    checkpoint_steps,
    load_encoder_and_step,
    load_probe,
)
from isojax.training.probe import probe_logits
from isojax.training.workdir import load_config

RESULT_FILE = "linear_eval.json"
ACCURACY_FIGURE = "accuracy.png"
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
) -> dict[str, Any]:
    """Evaluates a run and writes `linear_eval.json`.

    Args:
      workdir: the run's folder, where the file is written, which `result_file` names;
        and `evaluation.npz`, what the report shows of it.
      data_dir: folder of the data sets, as in `load_dataset`.
      options: what to measure; by default linear readout and k-NN.

    Returns:
      What is written: `accuracy` (0 to 1), `split` it was measured on, `num_train`,
      `num_test`, the baselines' accuracies, `knn_accuracy` by number of neighbours, and
      how the penalty was chosen; and of what else was asked for `finetune_accuracy`,
      `online_accuracy`, the lists `label_fractions` and `curve`. What the file holds of
      other protocols stays, if it is of the same checkpoint.

    Raises:
      UsageError: if the folder holds no run or no such checkpoint, the images do not
        fit the encoder, or the result cannot be written, which is then printed.
    """
    if Path(workdir).is_dir() and not os.access(workdir, os.W_OK):
        raise UsageError(
            f"--workdir={workdir} cannot be written, so that no result could be kept; "
            "copy the run elsewhere, or change the folder's permissions"
        )
    found = evaluate(workdir, data_dir=data_dir, options=options)
    try:
        return _write(Path(workdir), found, options)
    except OSError as error:
        say(format_table(found.result))  # hours of work may be in it
        raise UsageError(
            f"--workdir={workdir} cannot be written ({error.strerror}), so that the "
            "result was not kept whole; make room, or copy the run elsewhere"
        ) from error


def _write(workdir: Path, found: Evaluation, options: Options) -> dict[str, Any]:
    """Writes what was found, and returns it with what the file held before."""
    path = workdir / result_file(options)
    result = merge_results(_previous(path, found.result), found.result)
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
    if found.readout is not None and not options.data:
        attempt(
            lambda: save_record(
                workdir,
                found.dataset,
                found.sets.features,
                found.sets.test_features,
                found.readout,
            ),
            failure=f"{RECORD_FILE} was not written; the report lacks neighbours and "
            "confusions of this evaluation",
        )
    if "curve" in result and options.steps is not None:
        attempt(
            lambda: _draw_curve(workdir / "figures", result),
            failure=f"figures/{ACCURACY_FIGURE} was not drawn",
        )
    return result


def _draw_curve(figures: Path, result: dict[str, Any]) -> None:
    from isojax.reporting.accuracy import save_accuracy  # with Matplotlib

    figures.mkdir(exist_ok=True)
    save_accuracy(figures / ACCURACY_FIGURE, result)


def result_file(options: Options) -> str:
    """Name of the file in the run's folder; other images have one of their own."""
    if not options.data:
        return RESULT_FILE
    fields = "-".join(str(value) for value in options.data.values())
    return f"linear_eval-{quote(fields, safe='+')}.json"


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


def evaluate(
    workdir: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008
) -> Evaluation:
    """What `evaluate_run` writes, not written, and what it was found from.

    The encoder, the run's own before its first step, and raw pixels meet the same
    protocols: features of every labelled image once, in evaluation mode; see
    `fit_linear_readout` and `knn_accuracy`. Fine-tuning and the online probe are the
    encoder's alone. Of several checkpoints the last one meets everything, the others
    what needs no training of the encoder.
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
    if options.data and "online" in options.protocols:
        raise UsageError(
            "--protocol=online is a classifier of the run's own data; leave it out "
            "where --config.data is set"
        )
    data = evaluation_data(config.data, options.data)
    dataset = load_dataset(data, data_dir=data_dir)
    _check_images(dataset, config, data)
    train, test = dataset.train, dataset.evaluation

    encoders = {"": (apply, variables)}
    if {"linear", "knn"} & set(options.protocols):
        encoders |= {
            "random_init_": random_encoder(workdir),
            "raw_pixel_": (_raw_pixels, {}),
        }
    sets = {
        prefix: _feature_sets(encoder, train, test)
        for prefix, encoder in encoders.items()
    }
    result, readouts = {"step": step}, {}
    for prefix in encoders:
        found, readouts[prefix] = measure_frozen(sets[prefix], options.protocols)
        result |= {prefix + name: value for name, value in found.items()}
    readout, finetuned = readouts[""], None
    result |= {
        "split": dataset.evaluation_name,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
    }
    if options.data:
        result["data"] = dict(options.data)
    if readout is not None:
        result |= {
            "penalty": readout.penalty,
            "penalty_chosen_on": _CHOSEN_ON,
            "validation_accuracy": readout.validation_accuracy,
            "per_class_accuracy": _per_class(readout.predictions, dataset),
        }
    if "online" in options.protocols:
        result["online_accuracy"] = _online_accuracy(workdir, step, sets[""], dataset)
    if "finetune" in options.protocols and 1.0 in options.label_fractions:
        finetuned = finetune(apply, variables, train, test, augment=config.augment)
        result |= _described(finetuned)
    if options.label_fractions != (1.0,):
        result["label_fractions"] = [
            _measure_fraction(fraction, encoders, sets, train, test, config, options)
            for fraction in options.label_fractions
            if fraction < 1
        ]
    if curve_steps:
        result["curve"] = [
            *_curve(workdir, curve_steps[:-1], dataset, options),
            _point(result),
        ]
    result["seconds"] = round(time.perf_counter() - start, 1)
    return Evaluation(result, dataset, sets[""], readout, finetuned)


def _check_images(dataset: Dataset, config: ConfigDict, data: ConfigDict) -> None:
    channels, expected = dataset.train.images.shape[-1], len(config.data.mean)
    if channels != expected:
        raise UsageError(
            f"the images of {data.name} have {channels} channels, but the encoder was "
            f"trained on {expected}; choose a data set with {expected}"
        )


def _feature_sets(encoder: Encoder, train: Split, test: Split) -> FeatureSets:
    features, test_features = (
        extract_features(*encoder, split.images) for split in (train, test)
    )
    return FeatureSets(features, train.labels, test_features, test.labels)


def _measure_fraction(
    fraction: float,
    encoders: dict[str, Encoder],
    sets: dict[str, FeatureSets],
    train: Split,
    test: Split,
    config: ConfigDict,
    options: Options,
) -> dict[str, Any]:
    chosen = labelled_part(train.labels, fraction)
    row: dict[str, Any] = {"fraction": fraction, "num_train": len(chosen)}
    for prefix in encoders:
        found, readout = measure_frozen(sets[prefix].part(chosen), options.protocols)
        row |= {prefix + name: value for name, value in found.items()}
        if readout is not None:
            row[f"{prefix}penalty"] = readout.penalty
    if "finetune" in options.protocols:
        part = Split(train.images[chosen], train.labels[chosen])
        row |= _described(finetune(*encoders[""], part, test, augment=config.augment))
    return row


def _curve(
    workdir: str | os.PathLike,
    steps: Sequence[int],
    dataset: Dataset,
    options: Options,
) -> list[dict[str, Any]]:
    points = []
    for step in steps:
        apply, variables, _ = load_encoder_and_step(workdir, step)
        sets = _feature_sets((apply, variables), dataset.train, dataset.evaluation)
        point = {"step": step} | measure_frozen(sets, options.protocols)[0]
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
