import threading
import time

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


def feed_threads():
    return [thread for thread in threading.enumerate() if "feed" in thread.name]


def test_a_thread_sends_two_batches_ahead(monkeypatch):
    fed, sent, split_batch = feed("host"), [], data_parallel.split_batch

    def count(batch):
        assert threading.current_thread() in feed_threads()
        sent.append(batch)
        return split_batch(batch)

    fed._batch_size = 4  # five batches
    monkeypatch.setattr(data_parallel, "split_batch", count)
    for number, batch in enumerate(fed.epoch(0)):
        expected, end = min(number + 3, 5), time.monotonic() + 10
        while len(sent) < expected and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.01)  # long enough to send another batch
        assert len(sent) == expected
        np.testing.assert_array_equal(
            np.ravel(batch["indices"]), sent[number]["indices"]
        )
    assert number == 4 and not feed_threads()


def test_an_error_of_the_thread_is_raised_where_the_batch_is_used():
    error = UsageError("the file cannot be read")

    def batches():
        yield {"indices": np.arange(4)}
        raise error

    sent = feeding.sent_ahead(batches())
    next(sent)
    with pytest.raises(UsageError) as raised:
        next(sent)
    assert raised.value is error and not feed_threads()


def test_closing_ends_the_thread_and_its_source():
    closed = []

    def batches():
        try:
            while True:
                yield {"indices": np.arange(4)}
        finally:
            closed.append(threading.current_thread())

    sent = feeding.sent_ahead(batches())
    next(sent)
    sent.close()
    assert closed == [threading.current_thread()] and not feed_threads()


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


@pytest.mark.parametrize("place", ["auto", "device"])
def test_all_processes_choose_by_the_smallest_memory(place, monkeypatch):
    size = SPLIT.images.nbytes
    monkeypatch.setattr(feeding, "_device_memory", lambda: 8 * size)
    assert feed(place).shared

    def gather(text):
        return [text, str(size // 2)]

    monkeypatch.setattr(processes, "gather", gather)
    if place == "auto":
        assert not feed(place).shared
    else:
        with pytest.raises(UsageError, match="set config.data.feed=host"):
            feed(place)


def test_images_that_no_device_can_hold_are_refused(monkeypatch):
    monkeypatch.setattr(feeding, "_device_memory", lambda: 10)
    with pytest.raises(UsageError, match="set config.data.feed=host"):
        feed("device")
