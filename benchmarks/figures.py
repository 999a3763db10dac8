"""Draws all figures of the toy experiments and writes them to docs/toys.

python -m benchmarks.figures
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from isojax.dynamics import input_spectra, toys
from isojax.reporting import toys as draw

FOLDER = Path(__file__).parent.parent / "docs" / "toys"
INPUT_VARIANCES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
FOUR_LOSSES = ("euclidean", "iso_euclidean", "cosine", "iso_cosine")
STARTS = np.array([[0.1, 0.5], [0.9, 0.15], [1.3, 0.6], [0.4, 1.3], [0.05, 0.04]])
SAMPLE_STARTS = np.array([[0.3, 1.0], [-0.2, 0.6], [1.2, -1.0], [-1.0, -0.3]])


def main() -> None:
    """Draws all figures, two at a time, and prints the time that each takes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures = (
        eigenvalue_curves_linear,
        eigenvalue_portraits,
        eigenvalue_curves_relu,
        input_spectrum_curves,
        initialization_curves,
        convergence_times,
        representation_portraits,
    )
    # Most of the time is single-threaded compilation.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for line in pool.map(save, figures):
            print(line, flush=True)


def save(draw_figure: Callable[[], Figure]) -> str:
    """Draws and saves a figure, and returns its path and the time that it takes."""
    jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    path = FOLDER / f"{draw_figure.__name__}.png"
    draw_figure().savefig(path, dpi=120)
    return f"{path}  {time.perf_counter() - start:.0f} s"


def eigenvalue_curves_linear() -> Figure:
    """Fig. 2: the eight losses in a linear network."""
    curves = toys.eigenvalue_curves(jax.random.key(0), steps_per_row=5, samples=2_000)
    return draw.draw_eigenvalue_curves(curves)


def eigenvalue_curves_relu() -> Figure:
    """Fig. 5: the same losses with a ReLU on the embedding."""
    curves = toys.eigenvalue_curves(
        jax.random.key(0), activation="relu", steps_per_row=5, samples=1_000
    )
    return draw.draw_eigenvalue_curves(curves)


def initialization_curves() -> Figure:
    """Fig. 4: two neurons from three initialisations."""
    curves = toys.initialization_curves(jax.random.key(1))
    return draw.draw_initialization_curves(curves)


def input_spectrum_curves() -> Figure:
    """What the spectrum of the inputs does to the modes."""
    curves = input_spectra.input_spectrum_curves(jax.random.key(8), INPUT_VARIANCES)
    return draw.draw_input_spectrum_curves(curves, INPUT_VARIANCES)


def eigenvalue_portraits() -> Figure:
    """Phase portraits of two eigenvalues, with trained two-neuron networks."""
    portraits, simulations = {}, {}
    for name in FOUR_LOSSES:
        portraits[name] = toys.eigenvalue_portrait(name, jnp.asarray(STARTS), time=40.0)
        trajectories = toys.two_neuron_trajectories(
            name, jnp.asarray(STARTS), jax.random.key(2)
        )
        simulations[name] = list(np.asarray(trajectories))
    return draw.draw_eigenvalue_portraits(portraits, simulations)


def representation_portraits() -> Figure:
    """Phase portraits of one sample's two components under a fixed predictor."""
    eigenvalues = jnp.array([0.3, 1.2])
    portraits = {
        name: toys.representation_portrait(
            name, eigenvalues, jnp.asarray(SAMPLE_STARTS), time=10.0
        )
        for name in FOUR_LOSSES
    }
    return draw.draw_representation_portraits(portraits, eigenvalues.tolist())


def convergence_times() -> Figure:
    """Time that a weak mode needs to converge, for each loss."""
    initial = jnp.geomspace(1e-3, 0.8, 13)
    times = {
        name: np.asarray(toys.convergence_times(name, initial)) for name in FOUR_LOSSES
    }
    return draw.draw_convergence_times(np.asarray(initial), times)


if __name__ == "__main__":
    main()
