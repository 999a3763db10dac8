"""Computes the features of all images of a data set."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from isojax.data import full_batches
from isojax.data.dataset import ImageArray
from isojax.progress import SILENT, Progress

_BATCH_SIZE = 256


def extract_features(
    apply: Callable[[dict, Array], Array],
    variables: dict,
    images: ImageArray,
    *,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Computes the features of images in evaluation mode.

    Args:
      apply: the function from `(variables, images)` to features, as `load_encoder`
        returns it.
      variables: the encoder's parameters and statistics.
      images: the images, shape (n, h, w, c), with the dtype and range that `apply`
        takes.
      progress: reports the extraction.

    Returns:
      float32 features, shape (n, features).
    """
    compiled = jax.jit(apply)
    shape = jax.eval_shape(apply, variables, np.asarray(images[:1])).shape[1:]
    features, first = np.empty((len(images), *shape), np.float32), 0
    with progress.phase("features", total=len(images), unit="images") as advance:
        for batch, count in full_batches(images, _BATCH_SIZE):
            found = np.asarray(compiled(variables, batch))[:count]
            features[first : first + count] = found
            first += count
            advance(count)
    return features
