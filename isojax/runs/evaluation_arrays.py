"""The arrays of an evaluation that a report shows, `evaluation.npz`."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isojax.files import write_atomically
from isojax.runs import layout


class EvaluationArrays(NamedTuple):
    """The arrays of the file, under their names in it.

    Attributes:
      labels: class of each test image, shape (m,).
      predictions: the linear readout's class of each test image, shape (m,).
      label_names: names of the classes.
      embedded: indices of some test images, shape (e,).
      features: normalised features of these, shape (e, features), float16.
      shown: indices of a few test images, shape (s,).
      images: images of these, uint8, shape (s, h, w, c).
      neighbours: indices of their nearest training images, shape (s, k).
      neighbour_labels: classes of the neighbours, shape (s, k).
      neighbour_images: images of the neighbours, uint8, shape (s, k, h, w, c).
    """

    labels: np.ndarray
    predictions: np.ndarray
    label_names: np.ndarray
    embedded: np.ndarray
    features: np.ndarray
    shown: np.ndarray
    images: np.ndarray
    neighbours: np.ndarray
    neighbour_labels: np.ndarray
    neighbour_images: np.ndarray


def save_evaluation_arrays(workdir: Path, arrays: EvaluationArrays) -> None:
    """Writes `evaluation.npz` atomically.

    Args:
      workdir: the run's folder.
      arrays: the content of the file.

    Raises:
      OSError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays._asdict())
    path = Path(workdir) / layout.EVALUATION_ARRAYS_FILE
    write_atomically(path, buffer.getvalue())
