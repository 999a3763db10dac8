"""Weighted k-nearest-neighbour classification."""

import jax
import jax.numpy as jnp
import numpy as np

_QUERY_BATCH = 256


def knn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    k: int,
    temperature: float = 0.07,
) -> float:
    """Accuracy of a vote of the k nearest neighbours by cosine similarity.

    A neighbour of similarity s has exp(s / temperature) votes.

    Args:
      features: of the labelled images, shape (n, features).
      labels: shape (n,), integers from 0.
      test_features: shape (m, features).
      test_labels: shape (m,).
      k: neighbours; all n where n is smaller.
      temperature: of the votes.

    Returns:
      The part of the test images that is classified correctly.

    Source: Wu et al. 2018, section 3.4.
    """
    k = min(k, len(features))
    classes = int(labels.max()) + 1
    bank = jnp.asarray(unit_rows(features))
    votes_for = jax.nn.one_hot(labels, classes)

    @jax.jit
    def predict(queries):
        similarity, neighbours = jax.lax.top_k(queries @ bank.T, k)
        weights = jnp.exp((similarity - 1.0) / temperature)
        return jnp.einsum("qk,qkc->qc", weights, votes_for[neighbours]).argmax(axis=-1)

    queries = unit_rows(test_features)
    predictions = [
        np.asarray(predict(queries[first : first + _QUERY_BATCH]))
        for first in range(0, len(queries), _QUERY_BATCH)
    ]
    return float(np.mean(np.concatenate(predictions) == test_labels))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Each row divided by its Euclidean norm; a row of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)
