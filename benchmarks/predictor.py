"""Times the closed-form predictor and prints a Markdown table.

    python -m benchmarks.predictor [--json=FILE]

A repetition updates the correlation with the projections of two views of 128 images,
computes the eigendecomposition, W_P and its root, and the predictions of both views, in
float32. Times are medians over repetitions, without compilation. If PyTorch is
installed, the same computation in PyTorch is timed alternately, after both results are
compared.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.timing import (
    alternate,
    markdown,
    median,
    parse_arguments,
    spread,
    write_json,
)
from isojax.compilation import configure_cpu
from isojax.predictor import direct_predictor, update_correlation

ROWS, DECAY = 256, 0.3
DIMS = (64, 128, 256, 512, 1024, 2048)
REPETITIONS = 7
HAS_TORCH = importlib.util.find_spec("torch") is not None


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments(__doc__)
    configure_cpu()
    columns = ["dimensions", "ms", "fastest to slowest"]
    if HAS_TORCH:
        columns += ["PyTorch, ms", "ratio"]
    rows, results = [], []
    for dim in DIMS:
        z = np.random.default_rng(0).normal(size=(ROWS, dim)).astype(np.float32)
        works: list[Callable[[], Any]] = [isojax_update(z)]
        if HAS_TORCH:
            works.append(torch_update(z))
            np.testing.assert_allclose(works[0](), works[1](), rtol=1e-2, atol=1e-2)
        timings = alternate(works, REPETITIONS)
        medians = [median(of_one).wall * 1e3 for of_one in timings]
        row = [f"{dim:,}", f"{medians[0]:.2f}", spread(timings[0], 1e-3)]
        if HAS_TORCH:
            row += [f"{medians[1]:.2f}", f"{medians[1] / medians[0]:.1f}"]
        rows.append(row)
        names = ("isojax_ms", "torch_ms")
        results.append({"dim": dim, **dict(zip(names, medians, strict=False))})
    print(markdown(columns, rows))
    write_json(arguments.json, results)


def isojax_update(z: np.ndarray) -> Callable[[], jax.Array]:
    """A function that updates the predictor with z (n, dim) and applies it to z."""

    @jax.jit
    def predict(correlation: jax.Array, z: jax.Array) -> jax.Array:
        correlation = update_correlation(correlation, z, decay=DECAY)
        predictor = direct_predictor(correlation)
        return z @ predictor.matrix + z @ predictor.root

    correlation, rows = jax.device_put((np.eye(z.shape[1], dtype=np.float32), z))
    return lambda: predict(correlation, rows)


def torch_update(z: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that does the same in PyTorch."""
    import torch

    correlation, rows = torch.eye(z.shape[1]), torch.from_numpy(z)

    @torch.no_grad()
    def predict() -> np.ndarray:
        updated = DECAY * correlation + (1 - DECAY) * rows.T @ rows / len(rows)
        eigenvalues, vectors = torch.linalg.eigh(updated)
        lam = eigenvalues.clamp(min=0).sqrt()
        matrix, root = (vectors * lam) @ vectors.T, (vectors * lam.sqrt()) @ vectors.T
        return (rows @ matrix + rows @ root).numpy()

    return predict


if __name__ == "__main__":
    main()
