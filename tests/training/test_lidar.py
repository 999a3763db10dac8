import jax
import numpy as np
import pytest

from isojax import processes, spectral
from isojax.data import Split
from isojax.training.feeding import Feed
from isojax.training.lidar import make_lidar
from isojax.training.step import make_views
from tests.training.tiny_network import SIDE


@pytest.fixture
def feed():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1_130, SIDE, SIDE, 1), dtype=np.uint8)
    labels = np.full(len(images), -1, np.int32)
    return Feed(Split(images, labels), batch_size=8, seed=0, place="host")


@pytest.mark.long
def test_lidar_is_that_of_two_views_of_a_thousand_images(tiny_run, feed):
    run = tiny_run()
    measure = make_lidar(run.network, run.context.views)
    chosen = np.linspace(0, len(feed) - 1, 1_000).astype(np.int32)
    batch = feed.examples(chosen, epoch=0)
    views = make_views(jax.random.key(0), batch, views=run.context.views)
    variables = {"params": run.state.params, "batch_stats": run.state.batch_stats}
    representations = [
        run.network.apply(variables, view, train=False)[0] for view in views
    ]
    expected = float(spectral.lidar(np.stack(representations, axis=1)))
    row = measure(run.state, feed)
    assert row == {"eval/lidar": pytest.approx(expected, rel=1e-3)}
    assert 1.5 < expected < 15  # of 16 features


def test_only_the_first_process_has_the_metric(tiny_run, feed, monkeypatch):
    monkeypatch.setattr(processes, "is_first_process", lambda: False)
    run = tiny_run()
    assert make_lidar(run.network, run.context.views)(run.state, feed) == {}
