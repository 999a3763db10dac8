"""Synthetic run folders of a few kilobytes, written without training."""

import json

import numpy as np

from isojax.configs import digits
from isojax.runs.history import History

DIM, CLASSES, TESTED = 6, 3, 12


def make_run(
    folder, *, preset="byol", epochs=5, scale=1.0, evaluated=(1, 2, 3, 4, 5), **changes
):
    """Writes the files that training writes.

    The largest eigenvalue is the epoch times `scale`. Only the `evaluated` epochs have
    metrics of the evaluation images. `changes` are config fields, with
    __ in place of dots.
    """
    folder.mkdir(parents=True)
    config = digits.get_config(preset).unlock()
    config.epochs, config.data.resolution = epochs, 4
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        (config[section] if section else config)[field] = value
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    history = History(folder)
    for epoch in range(1, epochs + 1):
        row = {
            "step": 10 * epoch,
            "epoch": epoch,
            "train/loss": -0.1 * epoch,
            "train/std": 0.4,
            "train/participation_ratio": 3.0,
            "train/images_per_second": 100.0,
        }
        if epoch in evaluated:
            row |= {"eval/online_accuracy": 0.5, "eval/effective_rank": 4.0}
        history.append(row, np.linspace(0.1, 1, DIM) * epoch * scale)
    return folder


def add_views(folder):
    images = np.full((2, 4, 4, 1), 90, np.uint8)
    (folder / "figures").mkdir()
    np.savez(
        folder / "figures" / "views.npz", images=images, views=np.stack([images] * 4)
    )


def add_evaluation(folder, *, names=("a", "b", "c"), **extra):
    result = {
        "accuracy": 0.9,
        "random_init_accuracy": 0.5,
        "raw_pixel_accuracy": 0.6,
        "knn_accuracy": {"20": 0.8},
        "random_init_knn_accuracy": {"20": 0.4},
        "raw_pixel_knn_accuracy": {"20": 0.5},
        "split": "test",
        "num_train": 20,
        "num_test": TESTED,
    }
    (folder / "linear_eval.json").write_text(json.dumps(result | extra))
    labels = np.arange(TESTED, dtype=np.int32) % CLASSES
    predictions = labels.copy()
    predictions[4] = 0  # an image of the second class
    np.savez(
        folder / "evaluation.npz",
        labels=labels,
        predictions=predictions,
        label_names=np.array(names),
        embedded=np.arange(TESTED),
        features=np.random.default_rng(0).normal(size=(TESTED, 5)).astype(np.float16),
        shown=np.array([0, 4]),
        images=np.zeros((2, 4, 4, 1), np.uint8),
        neighbours=np.zeros((2, 3), int),
        neighbour_labels=np.array([[0, 0, 2], [1, 1, 1]]),
        neighbour_images=np.zeros((2, 3, 4, 4, 1), np.uint8),
    )
