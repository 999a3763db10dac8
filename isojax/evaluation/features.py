"""Representations of whole image sets, computed once."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from isojax.data import full_batches

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
    features = [
        np.asarray(compiled(variables, batch))[:count]
        for batch, count in full_batches(images, _BATCH_SIZE)
    ]
    return np.concatenate(features)
