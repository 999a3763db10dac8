"""Prepares images, neighbours and classes for the template `run.html`."""

from typing import Any

import numpy as np

from isojax.reporting import classes
from isojax.reporting.pictures import data_address
from isojax.reporting.svg import with_name
from isojax.runs.evaluation_arrays import EvaluationArrays
from isojax.runs.stored_run import Arrays, StoredRun

_MAX_PAIRS = 8


def views(arrays: Arrays) -> list[dict[str, Any]]:
    """Returns rows of pictures: images, then their first and second views by step.

    Args:
      arrays: `images` and `views` of the run; may be empty.
    """
    if not arrays:
        return []
    rows = [("image", arrays["images"])]
    for number, view in enumerate(arrays["views"]):
        rows.append((f"step {number // 2 + 1}, view {number % 2 + 1}", view))
    return [
        {
            "name": name,
            "pictures": [
                {
                    "address": data_address(image),
                    "shows": f"Training image {number}"
                    + ("" if name == "image" else f", {name}"),
                }
                for number, image in enumerate(images, 1)
            ],
        }
        for name, images in rows
    ]


def neighbours(arrays: EvaluationArrays | None) -> list[dict[str, Any]]:
    """Returns test images, each with its nearest training images.

    `shows` is the text for screen readers.

    Args:
      arrays: arrays of the evaluation, if there are any.
    """
    if arrays is None:
        return []
    names = arrays.label_names
    rows = []
    for place, number in enumerate(arrays.shown):
        test_image = f"test image {place + 1}"
        label, predicted = arrays.labels[number], arrays.predictions[number]
        others = zip(
            arrays.neighbour_images[place],
            arrays.neighbour_labels[place],
            strict=True,
        )
        rows.append(
            {
                "address": data_address(arrays.images[place]),
                "shows": test_image.capitalize(),
                "name": str(names[label]),
                "misread": str(names[predicted]) if predicted != label else "",
                "others": [
                    {
                        "address": data_address(image),
                        "shows": f"Training image, neighbour {rank} of {test_image}",
                        "name": str(names[other]),
                        "is_wrong": bool(other != label),
                    }
                    for rank, (image, other) in enumerate(others, 1)
                ],
            }
        )
    return rows


def embedding(run: StoredRun) -> list[tuple]:
    """Returns title, drawing and note of each embedding of the test features."""
    arrays = run.evaluation_arrays
    if arrays is None:
        return []
    names = [str(name) for name in arrays.label_names]
    labels, features = arrays.labels[arrays.embedded], arrays.features
    points, explained = classes.principal_components(features)
    count = f"{len(labels):,} test images"
    note = f"{count}; {explained:.0%} of the variance of normalised features"
    drawings = [("Principal components", classes.scatter(points, labels, names), note)]
    if classes.has_umap():
        points = classes.umap_embedding(run.folder, features)
        drawings.append(("UMAP", classes.scatter(points, labels, names), count))
    else:
        title, drawing, note = drawings[0]
        drawings[0] = (title, drawing, f"{note}; pip install umap-learn adds UMAP")
    return drawings


def confusion(arrays: EvaluationArrays | None) -> dict[str, Any] | None:
    """Returns the confusion matrix and its largest entries off the diagonal.

    Args:
      arrays: arrays of the evaluation, if there are any.
    """
    if arrays is None:
        return None
    names = [str(name) for name in arrays.label_names]
    counts = classes.confusion_counts(arrays.labels, arrays.predictions, len(names))
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:_MAX_PAIRS]
    pairs = [np.unravel_index(place, errors.shape) for place in order]
    return {
        "svg": with_name(
            classes.confusion(counts, names),
            f"Confusion matrix of {len(names)} classes: {np.trace(counts):,} of "
            f"{counts.sum():,} test images are classified correctly, on the "
            "diagonal",
        ),
        "pairs": [
            {
                "name": names[row],
                "read_as": names[column],
                "times": int(errors[row, column]),
                "of": int(counts[row].sum()),
            }
            for row, column in pairs
            if errors[row, column]
        ],
    }
