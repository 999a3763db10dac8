"""Loads examples ahead of their use, in threads and in order, with grain."""

from collections.abc import Callable, Generator
from typing import Any

import grain

from isojax.cpu_cores import cpu_cores


def load_batches(
    load: Callable[[int], Any], count: int, *, batch_size: int
) -> Generator[Any, None, None]:
    """Yields batches of `load(0)`, `load(1)`, ..., `load(count - 1)`, in this order.

    As many threads as there are processors call `load`. They keep at most one batch and
    one example per thread ahead.

    Args:
      load: returns an example, an array or a dictionary of arrays, by its number. It is
        called in several threads at once.
      count: number of examples.
      batch_size: examples per batch. The last batch may be smaller.

    Yields:
      The examples of a batch, stacked.
    """
    threads = cpu_cores()
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=batch_size + threads
    )
    examples = grain.MapDataset.range(count).map(load).to_iter_dataset(options)
    iterator = iter(examples.batch(batch_size))
    try:
        yield from iterator
    finally:
        iterator.close()
