"""Arrays of an evaluation that its report shows, so that it needs no encoder."""

import io
from pathlib import Path

import numpy as np

from isojax.data import Dataset
from isojax.evaluation.knn import nearest_neighbours, unit_rows
from isojax.files import write_atomically
from isojax.runs import layout

_EMBEDDED = 2000  # test images whose features are stored
_SHOWN, _SHOWN_WRONG = 8, 3  # shown test images, and how many of them misclassified
_NEIGHBOURS = 6


def save_report_arrays(
    workdir: Path,
    dataset: Dataset,
    features: np.ndarray,
    test_features: np.ndarray,
    predictions: np.ndarray,
) -> None:
    """Writes features, predictions and nearest neighbours to `evaluation.npz`.

    For all test images the file holds `labels` and `predictions`, shape (m,), and
    `label_names`. For some test images it holds their indices `embedded`, shape (e,),
    and their normalised `features`, shape (e, features), float16. For a few test images
    it holds their indices `shown`, shape (s,), their `images`, and of their nearest
    training images the indices `neighbours` and the `neighbour_labels`, shape (s, k),
    and the `neighbour_images`, shape (s, k, h, w, c).

    Args:
      workdir: the run's folder.
      dataset: the data set of the evaluation.
      features: features of the training images, shape (n, features).
      test_features: features of the test images, shape (m, features).
      predictions: the linear readout's class of each test image, shape (m,).
    """
    path = Path(workdir) / layout.EVALUATION_ARRAYS_FILE
    path.unlink(missing_ok=True)  # of an earlier evaluation, in case this one fails
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
    """Returns the indices of test images to show; a few of them are misclassified."""
    wrong = _spread(np.flatnonzero(is_wrong), _SHOWN_WRONG)
    right = _spread(np.flatnonzero(~is_wrong), _SHOWN - len(wrong))
    return np.concatenate([right, wrong])


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """Returns at most `most` of the numbers, evenly spread."""
    count = min(most, len(numbers))
    places = np.linspace(0, len(numbers) - 1, count) if count else np.zeros(0)
    return numbers[places.astype(np.int64)]
