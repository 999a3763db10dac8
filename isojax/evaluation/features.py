"""Computes the features of all images of a data set."""

from collections.abc import Callable
from functools import lru_cache

import jax
import numpy as np
from jax import Array

from isojax import data_parallel, processes
from isojax.data import full_batches
from isojax.data.dataset import ImageArray
from isojax.progress import SILENT, Progress

_BATCH_SIZE = 256  # images per device


def extract_features(
    apply: Callable[[dict, Array], Array],
    variables: dict,
    images: ImageArray,
    *,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Computes the features of images in evaluation mode, on all devices.

    If there are several processes, all of them must call it with the same arguments.
    Each reads and computes its part of the images.

    Args:
      apply: the function from `(variables, images)` to features, as `load_encoder`
        returns it.
      variables: the encoder's parameters and statistics.
      images: the images, shape (n, h, w, c), with the dtype and range that `apply`
        takes.
      progress: reports the extraction.

    Returns:
      float32 features of all images in every process, shape (n, features).
    """
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    shape = jax.eval_shape(apply, variables, image).shape[1:]
    size = data_parallel.rows_per_device(len(images), _BATCH_SIZE)
    own = images[data_parallel.own_rows(len(images), size)]
    features, first = np.empty((len(own), *shape), np.float32), 0
    variables = data_parallel.replicate(variables)
    batches = full_batches(own, size * data_parallel.local_device_count())
    with progress.phase("features", total=len(own), unit="images") as advance:
        for found in _mapped(apply).map_batches(variables, batches):
            features[first : first + len(found)] = found
            first += len(found)
            advance(len(found))
    return processes.gather_rows(features)


@lru_cache(maxsize=1)  # training and test images are compiled for once
def _mapped(apply: Callable[[dict, Array], Array]) -> data_parallel.MappedFunction:
    return data_parallel.MappedFunction(apply)
