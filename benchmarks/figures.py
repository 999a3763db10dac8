"""Draws all figures of the toy experiments and writes them to docs/toys.

python -m benchmarks.figures
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from isojax.dynamics import toys
from isojax.reporting import toys as draw

FOLDER = Path(__file__).parent.parent / "docs" / "toys"
FOUR_LOSSES = ("euclidean", "iso_euclidean", "cosine", "iso_cosine")
STARTS = np.array([[0.1, 0.5], [0.9, 0.15], [1.3, 0.6], [0.4, 1.3], [0.05, 0.04]])
SAMPLE_STARTS = np.array([[0.3, 1.0], [-0.2, 0.6], [1.2, -1.0], [-1.0, -0.3]])


def main() -> None:
    """Draws all figures and prints the time that each takes."""
    jax.config.update("jax_enable_x64", True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw_figure in (
        eigenvalue_curves_linear,
        eigenvalue_curves_relu,
        initialization_curves,
        eigenvalue_portraits,
        representation_portraits,
        convergence_times,
    ):
        start = time.perf_counter()
        path = FOLDER / f"{draw_figure.__name__}.png"
        draw_figure().savefig(path, dpi=120)
        print(f"{path}  {time.perf_counter() - start:.0f} s", flush=True)


def eigenvalue_curves_linear() -> Figure:
    """Fig. 2: the eight losses in a linear network."""
    return draw.draw_eigenvalue_curves(toys.eigenvalue_curves(jax.random.key(0)))


def eigenvalue_curves_relu() -> Figure:
    """Fig. 5: the same losses with a ReLU on the embedding."""
    curves = toys.eigenvalue_curves(jax.random.key(0), activation="relu")
    return draw.draw_eigenvalue_curves(curves)


def initialization_curves() -> Figure:
    """Fig. 4: two neurons from three initialisations."""
    curves = toys.initialization_curves(jax.random.key(1))
    return draw.draw_initialization_curves(curves)


def eigenvalue_portraits() -> Figure:
    """Phase portraits of two eigenvalues, with trained two-neuron networks."""
    portraits, simulations = {}, {}
    for name in FOUR_LOSSES:
        portraits[name] = toys.eigenvalue_portrait(name, jnp.asarray(STARTS), time=40.0)
        simulations[name] = toys.two_neuron_trajectories(
            name, jnp.asarray(STARTS), jax.random.key(2)
        )
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
    times = {name: toys.convergence_times(name, initial) for name in FOUR_LOSSES}
    return draw.draw_convergence_times(initial, times)


if __name__ == "__main__":
    main()
