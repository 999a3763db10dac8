"""Representations of whole image sets, computed once."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array

_BATCH_SIZE = 256


def extract_features(
    apply: Callable[[dict, Array], Array], variables: dict, images: np.ndarray
) -> np.ndarray:
    """Features of every image, in evaluation mode.

    Args:
      apply: from `(variables, images)` to features, as `load_encoder` gives it.
      variables: of the encoder.
      images: shape (n, h, w, c), as `apply` takes them.

    Returns:
      float32 features, shape (n, features).
    """
    compiled = jax.jit(apply)
    size = min(_BATCH_SIZE, len(images))
    features = []
    for first in range(0, len(images), size):
        batch = images[first : first + size]
        # The last batch is filled up, so that one compiled program serves all.
        filled = np.resize(batch, (size, *batch.shape[1:]))
        features.append(np.asarray(compiled(variables, filled))[: len(batch)])
    return np.concatenate(features)
