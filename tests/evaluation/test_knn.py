import numpy as np

from isojax.evaluation import extract_features, knn_accuracy

BANK = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], np.float32)
LABELS = np.array([0, 1, 1])


def test_the_nearest_direction_wins_whatever_its_length():
    queries = np.array([[5.0, 1.0], [0.1, 0.2]], np.float32)
    assert knn_accuracy(BANK, LABELS, queries, np.array([0, 1]), k=1) == 1.0
    assert knn_accuracy(BANK, LABELS, queries, np.array([1, 1]), k=1) == 0.5


def test_votes_are_weighted_by_the_exponential_of_similarity():
    # One neighbour at similarity cos a, two of the other class at sin a.
    angle = np.deg2rad(40.0)
    query = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    gap = np.cos(angle) - np.sin(angle)
    at_balance = gap / np.log(2.0)  # exp(gap / T) = 2
    for temperature, winner in ((0.9 * at_balance, 0), (1.1 * at_balance, 1)):
        accuracy = knn_accuracy(
            BANK, LABELS, query, np.array([winner]), k=3, temperature=temperature
        )
        assert accuracy == 1.0


def test_more_neighbours_than_images_are_all_images():
    queries = np.array([[5.0, 1.0]], np.float32)
    assert knn_accuracy(BANK, LABELS, queries, np.array([0]), k=200) == 1.0


def test_features_are_those_of_one_call_whatever_the_batches():
    images = np.arange(2 * 300, dtype=np.float32).reshape(300, 1, 2, 1)
    features = extract_features(
        lambda variables, x: x.reshape(len(x), -1) * variables["w"],
        {"w": np.float32(2.0)},
        images,
    )
    np.testing.assert_array_equal(features, images.reshape(300, 2) * 2)
