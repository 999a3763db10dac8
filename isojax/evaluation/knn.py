"""Weighted k-nearest-neighbour classification."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax import data_parallel, processes
from isojax.data import full_batches
from isojax.evaluation.held_out import accuracy_of
from isojax.evaluation.protocols import Measurement, ProtocolInputs
from isojax.progress import SILENT, Progress

TEMPERATURE = 0.07
NEIGHBOURS = (20, 200)  # numbers of neighbours in an evaluation
_QUERY_BATCH = 256  # queries per device
_BLOCK_BYTES = 2**28  # bytes of the bank that are on every device at a time


class Neighbours(NamedTuple):
    """The most similar rows of a bank, most similar first.

    Attributes:
      similarity: cosine similarities, shape (m, k), float32.
      indices: row numbers in the bank, shape (m, k), int32, ascending among equally
        similar rows.
    """

    similarity: np.ndarray
    indices: np.ndarray


def measure(inputs: ProtocolInputs, progress: Progress) -> Measurement:
    """Measures k-NN with each of `NEIGHBOURS`; see `isojax.evaluation.protocols`."""
    neighbours = nearest_neighbours(
        inputs.features, inputs.test_features, k=max(NEIGHBOURS), progress=progress
    )
    accuracies = {
        str(k): accuracy_by_votes(
            neighbours, inputs.train.labels, inputs.test.labels, k=k
        )
        for k in NEIGHBOURS
    }
    return Measurement(
        {"knn_accuracy": accuracies}, details={"knn_temperature": TEMPERATURE}
    )


def knn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    k: int,
    temperature: float = TEMPERATURE,
) -> float:
    """Returns the accuracy of a vote of the k nearest neighbours.

    Neighbours are nearest by cosine similarity; one of similarity s has
    exp(s / temperature) votes.

    Args:
      features: features of the labelled images, shape (n, features).
      labels: their classes, shape (n,), integers from 0.
      test_features: features of the test images, shape (m, features).
      test_labels: their classes, shape (m,).
      k: the number of neighbours; all n if n is smaller.
      temperature: the positive temperature of the votes, dimensionless.

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

    The bank stays in the host's memory. It is copied to the devices in blocks of at
    most 256 MB, each once, so that a bank may be larger than a device's memory. The
    queries are spread over the devices. If there are several processes, all of them
    must call this function with the same arguments. Neighbours do not depend on the
    number of devices and processes.

    Args:
      features: the bank, shape (n, features), float.
      queries: the queries, shape (m, features), float.
      k: the number of neighbours; all n if n is smaller.
      progress: reports the search.

    Returns:
      The neighbours of each query, in every process; arrays of shape (m, min(k, n)).

    Raises:
      ValueError: if `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k={k} is not positive; choose at least one neighbour")
    k = min(k, len(features))
    rows = max(1, _BLOCK_BYTES // (4 * features.shape[1]))
    rows = -(-len(features) // -(-len(features) // rows))  # blocks of equal size
    size = min(_QUERY_BATCH, len(queries))
    own = queries[data_parallel.own_rows(len(queries), size)]
    batch_size = size * data_parallel.local_device_count()
    nothing = (
        np.full((batch_size, k), -np.inf, np.float32),
        np.zeros((batch_size, k), np.int32),
    )
    batches = [
        data_parallel.split_batch(nothing) for _ in range(0, len(own), batch_size)
    ]

    def search() -> Iterator[tuple[Any, int]]:
        for number, (block, in_block) in enumerate(full_batches(features, rows)):
            bank = data_parallel.replicate(_unit_rows32(block))
            shared = (bank, np.int32(number * rows), np.int32(in_block))
            for batch, (query, count) in enumerate(full_batches(own, batch_size)):
                query = data_parallel.split_batch(_unit_rows32(query))
                batches[batch] = _merge_block(shared, (*batches[batch], query))
                yield batches[batch], count

    work = -(-len(features) // rows) * len(own)
    with progress.phase("nearest neighbours", total=work, unit="queries") as advance:
        for _, count in data_parallel.computed(search()):
            advance(count)
    found = [data_parallel.join_batch(batch) for batch in batches] or [nothing]
    similarity, indices = (
        processes.gather_rows(np.concatenate(parts)[: len(own)])
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
    """Returns the accuracy of the vote of the first k of the given neighbours.

    Args:
      neighbours: the neighbours of the test images, at least k if the bank has as many.
      labels: the classes of the bank's rows, shape (n,), integers from 0.
      test_labels: the classes of the test images, shape (m,).
      k: the number of neighbours that vote.
      temperature: the positive temperature of the votes, dimensionless.

    Returns:
      The fraction of test images that are classified correctly.

    Raises:
      ValueError: if `temperature` is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} is not positive; try 0.07")
    similarity = neighbours.similarity[:, :k].astype(np.float64)
    # Relative to the nearest, because exp(s / temperature) can overflow.
    votes = np.exp((similarity - similarity[:, :1]) / temperature)
    voters = labels[neighbours.indices[:, :k]].astype(np.int64)
    images, classes = len(voters), int(labels.max()) + 1
    candidates = np.arange(images)[:, None] * classes + voters
    totals = np.bincount(candidates.ravel(), votes.ravel(), images * classes)
    predictions = totals.reshape(images, classes).argmax(axis=1)
    return accuracy_of(predictions, test_labels)


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Divides each row by its Euclidean norm; a row of zeros stays zero."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


def _unit_rows32(features: np.ndarray) -> np.ndarray:
    return unit_rows(features).astype(np.float32, copy=False)


@data_parallel.MappedFunction
def _merge_block(
    shared: tuple[Array, Array, Array], batch: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """Merges neighbours of earlier blocks with the first `count` rows of a block.

    Args:
      shared: unit rows of the bank, shape (b, features); the index in the bank of the
        first of them, a scalar; the number of them to compare, a scalar.
      batch: similarities of the neighbours in earlier blocks, shape (q, k); indices of
        these neighbours in the bank, shape (q, k); unit rows, shape (q, features).

    Returns:
      The new similarities and indices.
    """
    block, first, count = shared
    similarity, indices, queries = batch
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
