from contextlib import contextmanager

import numpy as np
import pytest

from isojax import data_parallel
from isojax.evaluation import extract_features, knn, knn_accuracy
from isojax.evaluation.knn import NEIGHBOURS
from isojax.progress import SILENT
from tests.evaluation.protocol_inputs import inputs_of

BANK = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], np.float32)
LABELS = np.array([0, 1, 1])


def drawn(n, m, dim, classes=5):
    """Features of overlapping clusters, in parts close to each other in direction."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=n + m)
    features = 0.3 * rng.normal(size=(classes, dim))[labels]
    features += rng.normal(size=(n + m, dim)) + 1.0
    features = features.astype(np.float32)
    return features[:n], labels[:n], features[n:], labels[n:]


def accuracy_in_float64(features, labels, test_features, test_labels, k, temperature):
    bank, queries = (
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
        for x in (features, test_features)
    )
    similarity = queries @ bank.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    predictions = []
    for row, indices in zip(similarity, nearest, strict=True):
        exponents = (row[indices] - row[indices].max()) / temperature
        votes = np.zeros(labels.max() + 1)
        np.add.at(votes, labels[indices], np.exp(exponents))
        predictions.append(votes.argmax())
    return np.mean(predictions == test_labels)


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


@pytest.mark.parametrize(("part", "winner"), [(0.95, 1), (1.05, 0)])
def test_the_temperature_is_0_07_unless_chosen(part, winner):
    gap = part * 0.07 * np.log(2.0)  # as above, on either side of the balance
    angle = np.pi / 4 - np.arcsin(gap / np.sqrt(2.0))
    query = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    assert knn_accuracy(BANK, LABELS, query, np.array([winner]), k=3) == 1.0


def test_neighbours_may_all_point_away():
    queries = np.array([[-1.0, -0.1]], np.float32)
    found = knn.nearest_neighbours(BANK, queries, k=2)
    np.testing.assert_array_equal(found.indices, [[1, 2]])
    np.testing.assert_allclose(found.similarity, -0.1 / np.sqrt(1.01), rtol=1e-5)


def test_rows_have_unit_length_and_zeros_stay():
    rows = knn.unit_rows(np.array([[0.03, 0.04], [0.0, 0.0], [30.0, 40.0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]], rtol=1e-6)


def test_more_neighbours_than_images_are_all_images():
    queries = np.array([[5.0, 1.0]], np.float32)
    assert knn_accuracy(BANK, LABELS, queries, np.array([0]), k=200) == 1.0
    assert knn.nearest_neighbours(BANK, queries, k=200).indices.shape == (1, 3)


@pytest.mark.parametrize("temperature", [1e-4, 0.005, 0.07, 10.0])
@pytest.mark.parametrize("k", [1, 20, 200])
def test_accuracies_equal_those_in_float64_at_any_temperature(k, temperature):
    sets = drawn(700, 301, 16)
    found = knn_accuracy(*sets, k=k, temperature=temperature)
    assert found == accuracy_in_float64(*sets, k, temperature)
    assert 0.3 < found < 1.0


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_neighbours_do_not_depend_on_the_blocks(monkeypatch, rows):
    bank, _, queries, _ = drawn(150, 301, 16)
    whole = knn.nearest_neighbours(bank, queries, k=20)
    monkeypatch.setattr(knn, "_BLOCK_BYTES", rows * 4 * 16)
    blocks = knn.nearest_neighbours(bank, queries, k=20)
    np.testing.assert_array_equal(blocks.indices, whole.indices)
    np.testing.assert_allclose(blocks.similarity, whole.similarity, rtol=1e-6)


def test_equal_rows_come_in_their_order_across_blocks(monkeypatch):
    monkeypatch.setattr(knn, "_BLOCK_BYTES", 2 * 4 * 2)
    found = knn.nearest_neighbours(np.tile(BANK[:1], (5, 1)), BANK[:1], k=5)
    np.testing.assert_array_equal(found.indices, [[0, 1, 2, 3, 4]])


def test_one_program_serves_all_batches_and_numbers_of_neighbours(monkeypatch):
    assert len(NEIGHBOURS) > 1
    traces, merge = [], knn._merge_block

    def count(shared, batch):
        traces.append(batch)
        return merge.function(shared, batch)

    monkeypatch.setattr(knn, "_merge_block", data_parallel.MappedFunction(count))
    monkeypatch.setattr(knn, "_QUERY_BATCH", 16)
    monkeypatch.setattr(knn, "_BLOCK_BYTES", 64 * 4 * 17)  # four blocks
    knn.measure(inputs_of(*drawn(230, 301, 17)), SILENT)
    assert len(traces) == 1


def test_the_search_reports_all_of_its_announced_work(monkeypatch):
    monkeypatch.setattr(knn, "_BLOCK_BYTES", 64 * 4 * 16)  # three blocks
    bank, _, queries, _ = drawn(150, 301, 16)
    done, totals = [], []

    class Counting:
        @contextmanager
        def phase(self, description, *, total, unit):
            totals.append(total)
            yield done.append

    knn.nearest_neighbours(bank, queries, k=20, progress=Counting())
    assert [sum(done)] == totals == [3 * 301]


def test_products_are_of_the_highest_precision():
    found = np.zeros((16, 4), np.float32), np.zeros((16, 4), np.int32)
    batch = data_parallel.split_batch((*found, np.zeros((16, 16), np.float32)))
    bank = np.zeros((32, 16), np.float32)
    text = knn._merge_block.lower((bank, np.int32(0), np.int32(32)), batch).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"k": 0}, "k=0"), ({"k": 3, "temperature": 0.0}, "temperature=0.0")],
)
def test_wrong_numbers_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        knn_accuracy(BANK, LABELS, BANK, LABELS, **changes)


def test_features_are_those_of_one_call_whatever_the_batches():
    images = np.arange(2 * 300, dtype=np.float32).reshape(300, 1, 2, 1)
    features = extract_features(
        lambda variables, x: x.reshape(len(x), -1) * variables["w"],
        {"w": np.float32(2.0)},
        images,
    )
    np.testing.assert_array_equal(features, images.reshape(300, 2) * 2)
