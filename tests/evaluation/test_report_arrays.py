import numpy as np

from isojax.data import Dataset, Split
from isojax.evaluation.report_arrays import choose_shown_images, save_report_arrays
from isojax.runs import layout

CLASSES, DIM = 3, 5


def make_split(count, rng):
    labels = np.arange(count, dtype=np.int32) % CLASSES
    images = rng.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8)
    features = rng.normal(size=(count, DIM)) + 20 * np.eye(CLASSES, DIM)[labels]
    return Split(images, labels), features.astype(np.float32)


def test_the_arrays_hold_neighbours_and_misread_images(tmp_path):
    rng = np.random.default_rng(0)
    train, features = make_split(30, rng)
    test, test_features = make_split(2100, rng)
    test_features[7] = 1e9 * features[11]  # too large for float16, were it not scaled
    predictions = test.labels.copy()
    predictions[[7, 9]] = (test.labels[[7, 9]] + 1) % CLASSES
    dataset = Dataset(train, train, test, "test", CLASSES, ("a", "b", "c"))
    shown = choose_shown_images(test.labels, features, test_features, predictions)
    save_report_arrays(tmp_path, dataset, test_features, predictions, shown)

    with np.load(tmp_path / layout.EVALUATION_ARRAYS_FILE) as arrays:
        stored = dict(arrays)
    np.testing.assert_array_equal(stored["predictions"], predictions)
    assert len(stored["features"]) == len(stored["embedded"]) == 2000
    assert stored["features"].dtype == np.float16
    assert np.isfinite(stored["features"]).all()
    shown = list(stored["shown"])
    assert len(shown) == len(set(shown)) == 8 and {7, 9} < set(shown)
    place = shown.index(7)
    assert stored["neighbours"][place, 0] == 11
    np.testing.assert_array_equal(stored["images"][place], test.images[7])
    np.testing.assert_array_equal(
        stored["neighbour_images"][place, 0], train.images[11]
    )
    # Of classes far apart every neighbour has the image's class.
    same = stored["neighbour_labels"] == test.labels[shown][:, None]
    assert same[[place for place, number in enumerate(shown) if number != 7]].all()
