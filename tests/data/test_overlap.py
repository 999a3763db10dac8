import numpy as np
import pytest

from isojax.data import sources
from isojax.data.cache import Images
from isojax.data.overlap import count_common, is_overlapping, may_share_images
from isojax.data.sources import load_dataset
from isojax.errors import UsageError
from tests.data.test_sources import source


@pytest.mark.parametrize(
    ("split", "other", "expected"),
    [
        ("train", "test", False),
        ("train+unlabelled", "test", False),
        ("train[:50%]", "train[50%:]", True),
        ("train+test", "test[:10]", True),
        ("train", "all", True),
        ("train", "train_extra", False),
    ],
)
def test_common_splits_are_found_by_name(split, other, expected):
    assert may_share_images(split, other) is expected
    assert may_share_images(other, split) is expected


def numbered(*numbers):
    return np.array(numbers, np.uint8).reshape(-1, 1, 1, 1)


def test_common_images_are_counted_on_the_first_side():
    assert count_common(numbered(1, 2, 2, 3), numbered(2, 4, 2)) == 2
    assert count_common(numbered(2, 4, 2), numbered(1, 2, 2, 3)) == 2
    assert count_common(numbered(1), numbered(2)) == 0


def test_one_image_that_occurs_twice_is_no_overlap():
    assert not is_overlapping(numbered(1, 2, 3, 4), numbered(5, 2, 6, 7))
    assert is_overlapping(numbered(1, 2, 3, 4), numbered(5, 2, 3, 7))


@pytest.fixture
def sliced(monkeypatch):
    """A set with 10 training and 4 test images whose splits may be sliced."""
    numbers = {"train": np.arange(10), "test": np.arange(10, 14)}

    def read(data, split, folder, data_dir):
        chosen = []
        for part in split.split("+"):
            name, _, cut = part.rstrip("]").partition("[")
            first, _, last = cut.partition(":")
            of_one = numbers[name]
            chosen.append(of_one[int(first or 0) : int(last or len(of_one))])
        chosen = np.concatenate(chosen)
        return Images(
            numbered(*chosen), np.int32(chosen % 2), ("even", "odd"), tuple(numbers)
        )

    monkeypatch.setattr(sources, "_read_cached", read)
    return lambda **fields: load_dataset(source(name="some_set", **fields))


@pytest.mark.parametrize(
    ("train_split", "evaluation_split"),
    [
        ("test", "test"),
        ("train+test", "test"),
        ("test", "train+test"),
        ("train[:6]", "train[4:]"),
        ("train[:5]", "train[4:]"),
        ("train[4:]", "train[:5]"),
        ("train[:5]+test", "train[4:]"),
        ("train", "train[3:5]"),
        ("train[-3:]", "train[:8]"),
    ],
)
def test_training_and_test_images_in_common_are_refused(
    sliced, train_split, evaluation_split
):
    with pytest.raises(UsageError) as error:
        sliced(train_split=train_split, evaluation_split=evaluation_split)
    assert f"config.data.train_split={train_split} " in str(error.value)
    assert f"config.data.evaluation_split={evaluation_split} " in str(error.value)


@pytest.mark.parametrize(
    ("train_split", "evaluation_split"),
    [
        ("train", "test"),
        ("train[:5]", "train[5:]"),
        ("train[5:]", "train[:5]"),
        ("train[:2]+train[8:]", "train[2:8]"),
        ("train[:5]+test", "train[5:]"),
    ],
)
def test_disjoint_parts_are_accepted(sliced, train_split, evaluation_split):
    dataset = sliced(train_split=train_split, evaluation_split=evaluation_split)
    common = count_common(dataset.train.images, dataset.evaluation.images)
    assert common == 0
    assert len(dataset.evaluation.labels) > 0
