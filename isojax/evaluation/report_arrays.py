"""Stores the arrays that a report shows, so that reporting needs no encoder."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from isojax.data import Dataset
from isojax.evaluation.knn import nearest_neighbours, unit_rows
from isojax.runs import layout
from isojax.runs.evaluation_arrays import EvaluationArrays, save_evaluation_arrays

_EMBEDDED = 2000  # test images whose features are stored
_SHOWN, _SHOWN_WRONG = 8, 3  # shown test images, and how many of them misclassified
_NEIGHBOURS = 6


class ShownImages(NamedTuple):
    """Test images that a report shows.

    Attributes:
      indices: their indices, shape (s,).
      neighbours: indices of their nearest training images, shape (s, k).
    """

    indices: np.ndarray
    neighbours: np.ndarray


def choose_shown_images(
    labels: np.ndarray,
    features: np.ndarray,
    test_features: np.ndarray,
    predictions: np.ndarray,
) -> ShownImages:
    """Chooses test images and finds their neighbours; all processes must call it.

    Args:
      labels: classes of the test images, shape (m,).
      features: features of the training images, shape (n, features).
      test_features: features of the test images, shape (m, features).
      predictions: the linear readout's class of each test image, shape (m,).
    """
    shown = _choose_shown(predictions != labels)
    nearest = nearest_neighbours(features, test_features[shown], k=_NEIGHBOURS)
    return ShownImages(shown, nearest.indices)


def save_report_arrays(
    workdir: Path,
    dataset: Dataset,
    test_features: np.ndarray,
    predictions: np.ndarray,
    shown_images: ShownImages,
) -> None:
    """Writes features, predictions and nearest neighbours to `evaluation.npz`.

    `EvaluationArrays` describes the content of the file.

    Args:
      workdir: the run's folder.
      dataset: the data set of the evaluation.
      test_features: features of the test images, shape (m, features).
      predictions: the linear readout's class of each test image, shape (m,).
      shown_images: the images to show.
    """
    path = Path(workdir) / layout.EVALUATION_ARRAYS_FILE
    path.unlink(missing_ok=True)  # of an earlier evaluation, in case this one fails
    test, train = dataset.evaluation, dataset.train
    embedded = _spread(np.arange(len(test.labels)), _EMBEDDED)
    shown, neighbours = shown_images
    neighbour_images = np.asarray(train.images[neighbours.reshape(-1)])
    shape = neighbour_images.shape[1:]
    arrays = EvaluationArrays(
        labels=test.labels,
        predictions=predictions.astype(np.int32),
        label_names=np.array(dataset.label_names, dtype=np.str_),
        embedded=embedded,
        features=unit_rows(test_features[embedded]).astype(np.float16),
        shown=shown,
        images=np.asarray(test.images[shown]),
        neighbours=neighbours,
        neighbour_labels=train.labels[neighbours],
        neighbour_images=neighbour_images.reshape(*neighbours.shape, *shape),
    )
    save_evaluation_arrays(workdir, arrays)


def _choose_shown(is_wrong: np.ndarray) -> np.ndarray:
    """Returns the indices of test images to show; a few of them are misclassified."""
    wrong = _spread(np.flatnonzero(is_wrong), _SHOWN_WRONG)
    right = _spread(np.flatnonzero(~is_wrong), _SHOWN - len(wrong))
    return np.concatenate([right, wrong])


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """Returns at most `most` of the numbers, evenly spread."""
    count = min(most, len(numbers))
    places = np.linspace(0, len(numbers) - 1, count) if count else np.zeros(0)
    return numbers[places.astype(np.int64)]
