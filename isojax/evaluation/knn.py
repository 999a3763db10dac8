"""Weighted k-nearest-neighbour classification."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.data import full_batches
from isojax.progress import SILENT, Progress

TEMPERATURE = 0.07
_QUERY_BATCH = 256
_BLOCK_BYTES = 2**28  # of the bank, on the device at one time


class Neighbours(NamedTuple):
    """The most similar rows of a bank, most similar first.

    Attributes:
      similarity: cosine similarities, shape (m, k), float32.
      indices: row numbers in the bank, shape (m, k), int32. Of equally similar rows the
        first comes first.
    """

    similarity: np.ndarray
    indices: np.ndarray


def knn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    k: int,
    temperature: float = TEMPERATURE,
) -> float:
    """Accuracy of a vote of the k nearest neighbours by cosine similarity.

    A neighbour of similarity s has exp(s / temperature) votes.

    Args:
      features: of the labelled images, shape (n, features).
      labels: shape (n,), integers from 0.
      test_features: shape (m, features).
      test_labels: shape (m,).
      k: number of neighbours; all n where n is smaller.
      temperature: of the votes, positive.

    Returns:
      The fraction of test images that are classified correctly.

    Raises:
      ValueError: if `k` or `temperature` is not positive.

    Source: Wu et al. 2018, section 3.4.
    """
    neighbours = nearest_neighbours(features, test_features, k=k)
    return accuracy_by_votes(
        neighbours, labels, test_labels, k=k, temperature=temperature
    )


def nearest_neighbours(
    features: np.ndarray,
    queries: np.ndarray,
    *,
    k: int,
    progress: Progress = SILENT,
) -> Neighbours:
    """Finds the rows of a bank with the largest cosine similarity to each query.

    The bank stays in the host's memory and passes through the device in blocks of at
    most 256 MB, each sent once, so that a bank may be larger than the device's memory.

    Args:
      features: the bank, shape (n, features), float.
      queries: shape (m, features), float.
      k: number of neighbours; all n where n is smaller.
      progress: reports the search.

    Returns:
      The neighbours of each query, shape (m, min(k, n)).

    Raises:
      ValueError: if `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k={k} is not positive; choose at least one neighbour")
    k = min(k, len(features))
    rows = max(1, _BLOCK_BYTES // (4 * features.shape[1]))
    rows = -(-len(features) // -(-len(features) // rows))  # blocks of equal size
    size = min(_QUERY_BATCH, len(queries))
    found = [
        (np.full((size, k), -np.inf, np.float32), np.zeros((size, k), np.int32))
        for _ in range(0, len(queries), size)
    ]
    work = -(-len(features) // rows) * len(queries)
    with progress.phase("nearest neighbours", total=work, unit="queries") as advance:
        for number, (block, in_block) in enumerate(full_batches(features, rows)):
            block = jax.device_put(_unit_rows32(block))
            for batch, (query, count) in enumerate(full_batches(queries, size)):
                found[batch] = jax.block_until_ready(
                    _merge_block(
                        *found[batch],
                        _unit_rows32(query),
                        block,
                        number * rows,
                        in_block,
                    )
                )
                advance(count)
    similarity, indices = (
        np.concatenate([np.asarray(part) for part in parts])[: len(queries)]
        for parts in zip(*found, strict=True)
    )
    return Neighbours(similarity, indices)


def accuracy_by_votes(
    neighbours: Neighbours,
    labels: np.ndarray,
    test_labels: np.ndarray,
    *,
    k: int,
    temperature: float = TEMPERATURE,
) -> float:
    """Accuracy of the vote of the first k of the neighbours that were found.

    Args:
      neighbours: of the test images, at least k where there are so many.
      labels: of the bank, shape (n,), integers from 0.
      test_labels: shape (m,).
      k: number of neighbours that vote.
      temperature: of the votes, positive.

    Returns:
      The fraction of test images that are classified correctly.

    Raises:
      ValueError: if `temperature` is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} is not positive; try 0.07")
    similarity = neighbours.similarity[:, :k].astype(np.float64)
    # Relative to the nearest: exp(s / temperature) leaves the range of floats.
    votes = np.exp((similarity - similarity[:, :1]) / temperature)
    voters = labels[neighbours.indices[:, :k]].astype(np.int64)
    images, classes = len(voters), int(labels.max()) + 1
    candidates = np.arange(images)[:, None] * classes + voters
    totals = np.bincount(candidates.ravel(), votes.ravel(), images * classes)
    predictions = totals.reshape(images, classes).argmax(axis=1)
    return float(np.mean(predictions == test_labels))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Each row divided by its Euclidean norm; a row of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


def _unit_rows32(features: np.ndarray) -> np.ndarray:
    return unit_rows(features).astype(np.float32, copy=False)


@jax.jit
def _merge_block(
    similarity: Array,
    indices: Array,
    queries: Array,
    block: Array,
    first: Array,
    count: Array,
) -> tuple[Array, Array]:
    """The best of what was found before and the first `count` rows of a block.

    Args:
      similarity: found before, shape (q, k).
      indices: found before, shape (q, k).
      queries: unit rows, shape (q, features).
      block: unit rows of the bank, shape (b, features).
      first: index in the bank of the block's first row, a scalar.
      count: number of the block's rows to compare, a scalar.

    Returns:
      The new similarities and indices.
    """
    # bfloat16 and TF32 products, the default on TPUs and GPUs, change the neighbours.
    products = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    is_counted = jnp.arange(len(block))[None] < count
    products = jnp.where(is_counted, products, -jnp.inf)
    k = indices.shape[1]
    best, places = jax.lax.top_k(products, min(k, len(block)))
    candidates = jnp.concatenate([similarity, best], axis=1)
    numbers = jnp.concatenate([indices, first + places], axis=1)
    similarity, places = jax.lax.top_k(candidates, k)
    return similarity, jnp.take_along_axis(numbers, places, axis=1)
