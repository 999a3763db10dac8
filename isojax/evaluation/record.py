"""What the report shows of an evaluation, kept so that it needs no network."""

import io
from pathlib import Path

import numpy as np

from isojax.data import Dataset
from isojax.evaluation.knn import nearest_neighbours, unit_rows
from isojax.files import write_atomically
from isojax.runs import layout

_EMBEDDED = 2000  # test images whose features are kept
_SHOWN, _SHOWN_WRONG = 8, 3  # test images shown, and how many of them misread
_NEIGHBOURS = 6


def save_record(
    workdir: Path,
    dataset: Dataset,
    features: np.ndarray,
    test_features: np.ndarray,
    predictions: np.ndarray,
) -> None:
    """Writes features, predictions and nearest neighbours to `evaluation.npz`.

    The file holds `labels` and `predictions` (m,) of the test images, `label_names`;
    `embedded` (e,), the numbers of some test images, and their normalised `features`
    (e, features), float16; `shown` (s,), the numbers of fewer, their `images`, and of
    their nearest training images `neighbours` (s, k) the numbers,
    `neighbour_labels` (s, k) and `neighbour_images` (s, k, h, w, c).

    Args:
      workdir: the run's folder.
      dataset: of the run.
      features: of the training images, shape (n, features).
      test_features: of the test images, shape (m, features).
      predictions: the linear readout's class of each test image, shape (m,).
    """
    path = Path(workdir) / layout.EVALUATION_ARRAYS_FILE
    path.unlink(missing_ok=True)  # of another evaluation, should this one fail
    test, train = dataset.evaluation, dataset.train
    embedded = _spread(np.arange(len(test.labels)), _EMBEDDED)
    shown = _choose_shown(predictions != test.labels)
    nearest = nearest_neighbours(features, test_features[shown], k=_NEIGHBOURS)
    neighbours = nearest.indices
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        labels=test.labels,
        predictions=predictions.astype(np.int32),
        label_names=np.array(dataset.label_names, dtype=np.str_),
        embedded=embedded,
        features=unit_rows(test_features[embedded]).astype(np.float16),
        shown=shown,
        images=test.images[shown],
        neighbours=neighbours,
        neighbour_labels=train.labels[neighbours],
        neighbour_images=train.images[neighbours],
    )
    write_atomically(path, buffer.getvalue())


def _choose_shown(is_wrong: np.ndarray) -> np.ndarray:
    """Numbers of test images to show: mostly typical ones, and a few misread."""
    wrong = _spread(np.flatnonzero(is_wrong), _SHOWN_WRONG)
    right = _spread(np.flatnonzero(~is_wrong), _SHOWN - len(wrong))
    return np.concatenate([right, wrong])


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the numbers, evenly spread."""
    count = min(most, len(numbers))
    places = np.linspace(0, len(numbers) - 1, count) if count else np.zeros(0)
    return numbers[places.astype(np.int64)]
