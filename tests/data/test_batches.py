import numpy as np
import pytest

from isojax.data import Split, epoch_order, full_batches, training_batches

SPLIT = Split(np.arange(10)[:, None], np.arange(10, dtype=np.int32) * 2)


def batches(**kwargs):
    return list(training_batches(SPLIT, batch_size=3, seed=1, epoch=0, **kwargs))


def test_the_order_depends_on_seed_and_epoch_alone():
    order = epoch_order(0, 0, 100)
    np.testing.assert_array_equal(order, epoch_order(0, 0, 100))
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(order, epoch_order(0, 1, 100))
    assert not np.array_equal(order, epoch_order(1, 0, 100))


def test_the_order_is_different_for_all_64_bits_of_a_seed():
    seeds = (0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1)
    orders = {tuple(epoch_order(s, e, 100)) for s in seeds for e in range(3)}
    assert len(orders) == 3 * len(seeds)


def test_the_order_of_a_seed_below_32_bits_is_numpy_s_of_seed_and_epoch():
    expected = np.random.default_rng((2**32 - 1, 7)).permutation(100)
    np.testing.assert_array_equal(epoch_order(2**32 - 1, 7, 100), expected)


def test_an_epoch_visits_each_image_at_most_once_and_drops_the_partial_batch():
    indices = np.concatenate([batch["indices"] for batch in batches()])
    assert len(indices) == 9
    assert len(set(indices)) == 9


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 3), (2**40, 1)])
def test_batches_follow_the_order_of_their_seed_and_epoch(seed, epoch):
    batches = training_batches(SPLIT, batch_size=3, seed=seed, epoch=epoch)
    indices = np.concatenate([batch["indices"] for batch in batches])
    np.testing.assert_array_equal(indices, epoch_order(seed, epoch, 10)[:9])


def test_images_labels_and_indices_belong_together():
    for batch in batches():
        np.testing.assert_array_equal(batch["images"][:, 0], batch["indices"])
        np.testing.assert_array_equal(batch["labels"], batch["indices"] * 2)
        assert batch["indices"].dtype == np.int32


def test_an_epoch_can_resume_in_its_middle():
    for late, full in zip(batches(first=2), batches()[2:], strict=True):
        np.testing.assert_array_equal(late["indices"], full["indices"])


@pytest.mark.parametrize("with_images", [True, False])
def test_processes_share_every_batch(with_images):
    kwargs = dict(batch_size=4, seed=1, epoch=2, with_images=with_images)
    whole = list(training_batches(SPLIT, **kwargs))
    parts = [list(training_batches(SPLIT, part=(i, 2), **kwargs)) for i in range(2)]
    assert len(whole) == 2
    for batch, first, second in zip(whole, *parts, strict=True):
        assert ("images" in batch) == with_images
        for name, array in batch.items():
            joined = np.concatenate([first[name], second[name]])
            np.testing.assert_array_equal(joined, array)


def test_full_batches_hold_every_image_once_and_are_of_one_size():
    images = np.arange(7)[:, None]
    batches = list(full_batches(images, 3))
    assert {batch.shape for batch, _ in batches} == {(3, 1)}
    kept = np.concatenate([batch[:count] for batch, count in batches])
    np.testing.assert_array_equal(kept, images)
    ((batch, count),) = full_batches(images, 10)
    assert (batch.shape, count) == ((10, 1), 7)
