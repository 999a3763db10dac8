"""Evaluation of a run: its encoder beside two baselines."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from isojax.data import load_dataset
from isojax.evaluation.features import extract_features
from isojax.evaluation.knn import knn_accuracy
from isojax.evaluation.linear import fit_linear_readout
from isojax.evaluation.record import save_record
from isojax.files import write_atomically
from isojax.training import load_encoder, random_encoder
from isojax.training.workdir import load_config

RESULT_FILE = "linear_eval.json"
NEIGHBOURS = (20, 200)


def evaluate_run(
    workdir: str | os.PathLike, *, data_dir: str | os.PathLike | None = None
) -> dict[str, Any]:
    """Linear readout and k-NN of a run, of a random encoder, and of raw pixels.

    All three meet the same protocol: features of every labelled image once, in
    evaluation mode; see `fit_linear_readout` and `knn_accuracy`. The random encoder is
    the run's own before its first step.

    Args:
      workdir: the run's folder, where `linear_eval.json` and `evaluation.npz`, what
        the report shows of it, are written.
      data_dir: folder of the data sets, as in `load_dataset`.

    Returns:
      What is written: `accuracy` (0 to 1), `split` it was measured on, `num_train`,
      `num_test`, the baselines' accuracies, `knn_accuracy` by number of neighbours,
      and how the penalty was chosen.

    Raises:
      UsageError: if the folder holds no run or no checkpoint.
    """
    start = time.perf_counter()
    config = load_config(workdir)
    encoders = {
        "encoder": load_encoder(workdir),
        "random_init": random_encoder(workdir),
        "raw_pixel": (_raw_pixels, {}),
    }
    dataset = load_dataset(config.data, data_dir=data_dir)
    train, test = dataset.train, dataset.evaluation
    readouts, neighbours = {}, {}
    for name, (apply, variables) in encoders.items():
        features = extract_features(apply, variables, train.images)
        test_features = extract_features(apply, variables, test.images)
        sets = (features, train.labels, test_features, test.labels)
        readouts[name] = fit_linear_readout(*sets)
        neighbours[name] = {str(k): knn_accuracy(*sets, k=k) for k in NEIGHBOURS}
        if name == "encoder":
            save_record(workdir, dataset, features, test_features, readouts[name])
    result = {
        "accuracy": readouts["encoder"].accuracy,
        "random_init_accuracy": readouts["random_init"].accuracy,
        "raw_pixel_accuracy": readouts["raw_pixel"].accuracy,
        "knn_accuracy": neighbours["encoder"],
        "random_init_knn_accuracy": neighbours["random_init"],
        "raw_pixel_knn_accuracy": neighbours["raw_pixel"],
        "split": dataset.evaluation_name,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "penalty": readouts["encoder"].penalty,
        "penalty_chosen_on": "a stratified fifth of the training images",
        "validation_accuracy": readouts["encoder"].validation_accuracy,
        "seconds": round(time.perf_counter() - start, 1),
    }
    content = json.dumps(result, indent=2) + "\n"
    write_atomically(Path(workdir) / RESULT_FILE, content.encode())
    return result


def format_table(result: dict[str, Any]) -> str:
    """The result of `evaluate_run` as a table to print."""
    names = {
        "": "pretrained encoder",
        "random_init_": "random encoder",
        "raw_pixel_": "raw pixels",
    }
    lines = [f"{'':20}{'linear':>8}" + "".join(f"{k + '-NN':>9}" for k in _ks(result))]
    for prefix, name in names.items():
        knn = result[f"{prefix}knn_accuracy"]
        lines.append(
            f"{name:20}{result[f'{prefix}accuracy']:8.3f}"
            + "".join(f"{knn[k]:9.3f}" for k in _ks(result))
        )
    lines.append(
        f"accuracy on {result['num_test']:,} {result['split']} images, "
        f"{result['num_train']:,} labelled images for the readout"
    )
    return "\n".join(lines)


def _ks(result: dict[str, Any]) -> list[str]:
    return list(result["knn_accuracy"])


def _raw_pixels(variables: dict, images: np.ndarray) -> np.ndarray:
    del variables
    return images.reshape(len(images), -1).astype(np.float32)
