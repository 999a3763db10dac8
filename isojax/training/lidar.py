"""LiDAR of the representations at the end of an epoch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax import data_parallel, processes, spectral
from isojax.data import full_batches
from isojax.models import SiameseNetwork
from isojax.runs import layout
from isojax.training.feeding import Feed
from isojax.training.representation_metrics import centred_covariance, products_of
from isojax.training.settings import ViewPair
from isojax.training.state import TrainState
from isojax.training.step import make_views

if TYPE_CHECKING:
    from isojax.training.streamed_feed import StreamedFeed

_MOST_IMAGES = 1_000  # as in the source
_BATCH_SIZE = 125  # images per device, two views of each
_lidar_of_covariances = jax.jit(spectral.lidar_of_covariances)


def make_lidar(
    network: SiameseNetwork, views: ViewPair
) -> Callable[[TrainState, "Feed | StreamedFeed"], dict[str, float]]:
    """Builds the measurement of LiDAR.

    It uses the two views of up to 1,000 pretraining images, evenly spaced, while its
    source uses 50 views per image. With q views, a direction in which images differ by
    B and the views of an image by W has the expected eigenvalue q/(q-1) B/W + 1/(q-1):
    here 2 B/W + 1, so that directions without any information count, too.

    Args:
      network: the module.
      views: settings of the two views.

    Returns:
      A function of a state and the run's feed, which must be called by all processes.
      It returns the metric in the first process. Images and views are the same in every
      call.
    """

    def represent(
        variables: tuple[dict, dict], batch: dict[str, Array]
    ) -> tuple[Array, Array]:
        params, batch_stats = variables
        both = jnp.concatenate(make_views(jax.random.key(0), batch, views=views))
        representation, _ = network.apply(
            {"params": params, "batch_stats": batch_stats}, both, train=False
        )
        first, second = jnp.split(representation, 2)
        return (first + second) / 2, (first - second) / 2

    mapped = data_parallel.MappedFunction(represent)

    def measure(state: TrainState, feed: "Feed | StreamedFeed") -> dict[str, float]:
        count = min(len(feed), _MOST_IMAGES)
        indices = np.linspace(0, len(feed) - 1, count).astype(np.int32)
        size = data_parallel.rows_per_device(count, _BATCH_SIZE)
        own = indices[data_parallel.own_rows(count, size)]
        variables = state.params, state.batch_stats
        batches = (
            (feed.examples(chosen, epoch=0), kept)
            for chosen, kept in full_batches(
                own, size * data_parallel.local_device_count()
            )
        )
        dim = len(state.probe.weights) - 1  # the last row is the bias
        total, between = np.zeros(dim), np.zeros((dim, dim))
        within = np.zeros((dim, dim))
        for means, deviations in mapped.map_batches(variables, batches):
            total += means.sum(axis=0, dtype=np.float64)
            between += products_of(means)
            within += products_of(deviations) / count
        total, between, within = map(processes.add, (total, between, within))
        if not processes.is_first_process():
            return {}
        between = centred_covariance(between, total, count)
        return {layout.LIDAR: float(_lidar_of_covariances(between, within))}

    return measure
