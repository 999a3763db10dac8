import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import data_parallel, processes
from isojax.data import Split, training_batches
from isojax.errors import UsageError
from isojax.training import feeding
from isojax.training.feeding import Feed, with_shared_images

SPLIT = Split(
    np.arange(22 * 12, dtype=np.uint8).reshape(22, 2, 2, 3),
    np.arange(22, dtype=np.int32)[::-1].copy(),
)


def feed(place):
    return Feed(SPLIT, batch_size=8, seed=3, place=place)


def images_seen(some_feed, **kwargs):
    """What a mapped step is given, batch by batch."""

    def step(state, batch):
        return state, jax.tree.map(
            lambda array: jax.lax.all_gather(array, data_parallel.AXIS, tiled=True),
            batch,
        )

    mapped = data_parallel.MappedStep(with_shared_images(step))
    state = data_parallel.replicate(jnp.zeros(()))
    for batch in some_feed.epoch(0, **kwargs):
        state, seen, _ = mapped(state, batch, some_feed.shared)
        yield jax.tree.map(np.asarray, seen)


def test_resident_and_streamed_images_give_the_same_batches():
    host, device = feed("host"), feed("device")
    assert not host.shared
    assert device.shared["images"].sharding.num_devices == data_parallel.device_count()
    batches = list(zip(images_seen(host), images_seen(device), strict=True))
    assert len(batches) == 2  # the partial third is dropped
    for from_host, from_device in batches:
        chex.assert_trees_all_equal(from_host, from_device)
        indices = from_host["indices"]
        np.testing.assert_array_equal(from_host["images"], SPLIT.images[indices])
        np.testing.assert_array_equal(from_host["labels"], SPLIT.labels[indices])


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("part", [(0, 2), (1, 2)])
def test_batches_are_those_of_seed_epoch_and_process(place, part, monkeypatch):
    fed = feed(place)
    monkeypatch.setattr(processes, "process_part", lambda: part)
    expected = training_batches(SPLIT, batch_size=8, seed=3, epoch=2, part=part)
    for batch, other in zip(fed.epoch(2), expected, strict=True):
        indices = np.ravel(batch["indices"])  # one row a device
        np.testing.assert_array_equal(indices, other["indices"])


def test_two_batches_are_sent_ahead(monkeypatch):
    fed, sent, split_batch = feed("host"), [], data_parallel.split_batch

    def count(batch):
        sent.append(batch)
        return split_batch(batch)

    fed._batch_size = 4  # five batches
    monkeypatch.setattr(data_parallel, "split_batch", count)
    counts, batches = zip(*((len(sent), batch) for batch in fed.epoch(0)), strict=True)
    assert counts == (3, 4, 5, 5, 5)
    for batch, expected in zip(batches, sent, strict=True):
        np.testing.assert_array_equal(np.ravel(batch["indices"]), expected["indices"])


def test_resident_images_are_not_sent_again():
    batch = next(feed("device").epoch(0))
    assert set(batch) == {"labels", "indices"}
    assert set(next(feed("host").epoch(0))) == {"images", "labels", "indices"}


def test_an_epoch_resumes_in_its_middle():
    for place in ("host", "device"):
        (late,) = images_seen(feed(place), first=1)
        chex.assert_trees_all_equal(late, list(images_seen(feed(place)))[1])


@pytest.mark.parametrize(
    ("memory", "place", "on_device"),
    [
        (None, "auto", False),  # a CPU
        (8 * SPLIT.images.nbytes, "auto", True),
        (2 * SPLIT.images.nbytes, "auto", False),
        (2 * SPLIT.images.nbytes, "device", True),
        (8 * SPLIT.images.nbytes, "host", False),
    ],
)
def test_the_place_is_chosen_by_size(memory, place, on_device, monkeypatch):
    monkeypatch.setattr(feeding, "_device_memory", lambda: memory)
    chosen = feed(place)
    assert bool(chosen.shared) == on_device
    assert ("of each device" in chosen.description) == on_device


def test_images_that_no_device_can_hold_are_refused(monkeypatch):
    monkeypatch.setattr(feeding, "_device_memory", lambda: 10)
    with pytest.raises(UsageError, match="set config.data.feed=host"):
        feed("device")
