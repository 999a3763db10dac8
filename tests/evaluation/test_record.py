import numpy as np

from isojax.data import Dataset, Split
from isojax.evaluation.record import save_record
from isojax.runs import layout

CLASSES, DIM = 3, 5


def make_split(count, rng):
    labels = np.arange(count, dtype=np.int32) % CLASSES
    images = rng.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8)
    features = rng.normal(size=(count, DIM)) + 20 * np.eye(CLASSES, DIM)[labels]
    return Split(images, labels), features.astype(np.float32)


def test_the_record_holds_neighbours_and_misread_images(tmp_path):
    rng = np.random.default_rng(0)
    train, features = make_split(30, rng)
    test, test_features = make_split(2100, rng)
    test_features[7] = 1e9 * features[11]  # too large for float16, were it not scaled
    predictions = test.labels.copy()
    predictions[[7, 9]] = (test.labels[[7, 9]] + 1) % CLASSES
    dataset = Dataset(train, train, test, "test", CLASSES, ("a", "b", "c"))
    save_record(tmp_path, dataset, features, test_features, predictions)

    with np.load(tmp_path / layout.EVALUATION_ARRAYS_FILE) as arrays:
        record = dict(arrays)
    np.testing.assert_array_equal(record["predictions"], predictions)
    assert len(record["features"]) == len(record["embedded"]) == 2000
    assert record["features"].dtype == np.float16
    assert np.isfinite(record["features"]).all()
    shown = list(record["shown"])
    assert len(shown) == len(set(shown)) == 8 and {7, 9} < set(shown)
    place = shown.index(7)
    assert record["neighbours"][place, 0] == 11
    np.testing.assert_array_equal(record["images"][place], test.images[7])
    np.testing.assert_array_equal(
        record["neighbour_images"][place, 0], train.images[11]
    )
    # Of classes far apart every neighbour has the image's class.
    same = record["neighbour_labels"] == test.labels[shown][:, None]
    assert same[[place for place, number in enumerate(shown) if number != 7]].all()
