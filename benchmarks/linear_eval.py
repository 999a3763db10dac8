"""Measures time and accuracy of the linear classifier and of k-NN.

    python -m benchmarks.linear_eval [--json=FILE] [--repetitions=1] [--images=50000]
        [--protocol=linear,knn]

Prints Markdown tables. The features are synthetic: classes are clusters in 512
dimensions whose spectrum follows a power law, mixed by a rotation and clipped at zero
as by a ReLU. The clusters overlap, so that 60 to 90% of the 10,000 test images are
classified correctly. A repetition is a complete call of `fit_linear_readout`: selecting
one of six penalties on a fifth of the images, and training on all.

If scikit-learn is installed, its LogisticRegression does the same, with the same split,
penalties and scaled features, alternating with the repetitions of isojax. scikit-learn
sums the losses over images, hence C = 1 / (images · penalty). It does not penalise the
bias either.

k-NN finds the neighbours of 10,000 test images with 512 features, as in ResNet-18, and
with 3,072, the number of pixel values of a CIFAR image. The times include compilation.
Processor seconds are the sum over all cores.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.timing import markdown, write_json
from isojax.data import Split, hold_out
from isojax.evaluation import fit_linear_readout
from isojax.evaluation.knn import NEIGHBOURS, accuracy_by_votes, nearest_neighbours
from isojax.evaluation.linear import PENALTIES

FEATURES = 512
PIXELS = 3_072
TEST_IMAGES = 10_000
# Number of classes, and distance between their centres.
TASKS = ((10, 0.1), (100, 0.17))
HAS_SKLEARN = importlib.util.find_spec("sklearn") is not None
Sets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--protocol", default="linear,knn", help="linear, knn, or both")
    arguments = parser.parse_args()
    results = {}
    if "linear" in arguments.protocol:
        results["linear"] = time_readout(arguments)
    if "knn" in arguments.protocol:
        results["knn"] = time_neighbours(arguments)
    write_json(arguments.json, results)


def time_readout(arguments: argparse.Namespace) -> list[dict]:
    """Prints the table of the linear classifier and returns its numbers."""
    columns = ["classes", "accuracy", "penalty", "seconds", "fastest to slowest"]
    if HAS_SKLEARN:
        columns += ["scikit-learn: accuracy", "penalty", "seconds", "ratio of seconds"]
    rows, results = [], []
    for classes, separation in TASKS:
        sets = drawn_features(arguments.images, classes, separation)
        fits = [by_isojax] + [by_sklearn] * HAS_SKLEARN
        measured = alternate(fits, sets, arguments.repetitions)
        ours, *theirs = measured
        row = [f"{classes}", *cells(ours), spread(ours["seconds"])]
        for other in theirs:
            ratio = statistics.median(other["seconds"]) / statistics.median(
                ours["seconds"]
            )
            row += [*cells(other), f"{ratio:.1f}"]
        rows.append(row)
        names = ("isojax", "scikit-learn")
        results.append({"classes": classes, **dict(zip(names, measured, strict=False))})
    print(f"{arguments.images:,} images, {FEATURES} features\n")
    print(markdown(columns, rows), flush=True)
    return results


def time_neighbours(arguments: argparse.Namespace) -> list[dict]:
    """Prints the table of k-NN and returns its numbers."""
    classes, separation = TASKS[0]
    rows, results = [], []
    for features in (FEATURES, PIXELS):
        sets = drawn_features(arguments.images, classes, separation, features=features)
        wall, processor = time.perf_counter(), time.process_time()
        bank, labels, queries, test_labels = sets
        neighbours = nearest_neighbours(bank, queries, k=max(NEIGHBOURS))
        accuracies = {
            str(k): accuracy_by_votes(neighbours, labels, test_labels, k=k)
            for k in NEIGHBOURS
        }
        seconds = time.perf_counter() - wall, time.process_time() - processor
        rows.append(
            [f"{features:,}"]
            + [f"{accuracy:.4f}" for accuracy in accuracies.values()]
            + [f"{value:.1f}" for value in seconds]
        )
        results.append({"features": features, "seconds": seconds[0], **accuracies})
    columns = ["features", *(f"{k}-NN" for k in NEIGHBOURS)]
    columns += ["seconds", "processor seconds"]
    print(f"\n{arguments.images:,} images, {TEST_IMAGES:,} queries\n")
    print(markdown(columns, rows), flush=True)
    return results


def drawn_features(
    images: int, classes: int, separation: float, *, features: int = FEATURES
) -> Sets:
    """Synthetic features (images, features) and labels, for training and test."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, features + 1) ** -0.5
    rotation = np.linalg.qr(rng.normal(size=(features, features)))[0]
    centres = separation * rng.normal(size=(classes, features))
    labels = rng.integers(classes, size=images + TEST_IMAGES).astype(np.int32)
    hidden = (centres[labels] + rng.normal(size=(len(labels), features))) * scales
    drawn = np.maximum(hidden @ rotation + 0.3, 0).astype(np.float32)
    return drawn[:images], labels[:images], drawn[images:], labels[images:]


def by_isojax(sets: Sets) -> tuple[float, float]:
    """Accuracy and penalty of isojax's linear classifier."""
    readout = fit_linear_readout(*sets)
    return readout.accuracy, readout.penalty


def by_sklearn(sets: Sets) -> tuple[float, float]:
    """Accuracy and penalty of scikit-learn's LogisticRegression."""
    features, labels, test_features, test_labels = sets
    fitting, held = hold_out(Split(features, labels), 0.2)
    fitting_features, held_features = map(np.asarray, (fitting.images, held.images))
    split = fitting_features, fitting.labels, held_features, held.labels
    accuracies = [_sklearn_accuracy(*split, penalty=p) for p in PENALTIES]
    penalty = PENALTIES[int(np.argmax(accuracies))]
    return _sklearn_accuracy(*sets, penalty=penalty), penalty


def _sklearn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    penalty: float,
) -> float:
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(axis=0), np.sqrt(features.var(axis=0).mean())
    model = LogisticRegression(C=1 / (len(labels) * penalty), max_iter=500)
    model.fit((features - mean) / scale, labels)
    return float(model.score((test_features - mean) / scale, test_labels))


def alternate(
    fits: Sequence[Callable[[Sets], tuple[float, float]]], sets: Sets, repetitions: int
) -> list[dict]:
    """Accuracy, penalty and seconds of each function, called alternately."""
    measured: list[dict] = [{"seconds": []} for _ in fits]
    for _ in range(repetitions):
        for fit, so_far in zip(fits, measured, strict=True):
            start = time.perf_counter()
            so_far["accuracy"], so_far["penalty"] = fit(sets)
            so_far["seconds"].append(time.perf_counter() - start)
    return measured


def cells(measured: dict) -> list[str]:
    """Accuracy, penalty and median seconds as table cells."""
    seconds = statistics.median(measured["seconds"])
    return [f"{measured['accuracy']:.4f}", f"{measured['penalty']:g}", f"{seconds:.1f}"]


def spread(seconds: list[float]) -> str:
    """Seconds of the fastest and the slowest repetition, as a table cell."""
    return f"{min(seconds):.1f} to {max(seconds):.1f}"


if __name__ == "__main__":
    main()
