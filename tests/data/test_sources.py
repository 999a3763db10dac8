import numpy as np
import pytest

from isojax.data import Split, hold_out, load_dataset
from isojax.errors import UsageError


def test_hold_out_takes_the_same_part_of_every_class_and_loses_nothing():
    labels = np.repeat([0, 1, 2], [10, 20, 30]).astype(np.int32)
    split = Split(np.arange(60), labels)
    kept, held = hold_out(split, 0.2)
    np.testing.assert_array_equal(np.bincount(held.labels), [2, 4, 6])
    np.testing.assert_array_equal(
        np.sort(np.concatenate([kept.images, held.images])), np.arange(60)
    )
    np.testing.assert_array_equal(labels[held.images], held.labels)
    again = hold_out(split, 0.2)[1]
    np.testing.assert_array_equal(held.images, again.images)


def test_a_validation_part_replaces_the_test_images():
    full = load_dataset("digits")
    tuning = load_dataset("digits", validation_fraction=0.2)
    assert (full.evaluation_name, tuning.evaluation_name) == ("test", "validation")
    assert len(tuning.train.labels) == 3200
    assert len(tuning.evaluation.labels) == 800
    train = {image.tobytes() for image in full.train.images}
    assert all(image.tobytes() in train for image in tuning.evaluation.images)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no data set 'digit'.* one of digits"):
        load_dataset("digit")
