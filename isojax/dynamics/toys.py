"""The toy experiments of the paper, as arrays to be plotted.

`simulate_network` trains a one-layer network on Gaussian inputs, and
`solve_eigenvalues` gives the corresponding population flow. The settings are those of
the official notebook except for 5,000 instead of 50,000 new samples per step. This
changes the curves of ten modes by at most 0.01, and by 0.06 for the cosine loss without
stop-gradient. With these learning rates, steps of the cosine losses add visibly to the
norm of the weights, which the flow conserves; `eigenvalue_curves` can take smaller
steps. Networks are trained in float32. The flow is solved in float64 and returned in
JAX's default precision.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.dynamics.arguments import check_choice
from isojax.dynamics.flow import eigenvalue_flow
from isojax.dynamics.network_step import LOSSES
from isojax.dynamics.networks import simulate_network
from isojax.dynamics.solve import solve_eigenvalues
from isojax.dynamics.velocities import VELOCITIES

WEIGHT_DEVIATION = 0.25
VIEW_NOISE = (0.0, 0.1)
SAMPLES = 5_000
STEPS = 1_500
TWO_NEURON_RATE = 0.01
# Number of times of portraits and of convergence times, which then share a program.
_TIMES = 2_000


class Curves(NamedTuple):
    """Eigenvalues of a predictor over the time of gradient flow.

    Attributes:
      times: learning rate times step, shape (steps,).
      simulation: eigenvalues in a trained network, ascending, shape (steps, dim).
      theory: eigenvalues of the population flow from the same start, shape (steps,
        dim); None for nonlinear networks.
    """

    times: Array
    simulation: Array
    theory: Array | None

    @property
    def distance(self) -> float | None:
        """The largest difference between network and theory; None without theory."""
        if self.theory is None:
            return None
        return float(jnp.max(jnp.abs(self.simulation - self.theory)))


class Portrait(NamedTuple):
    """A vector field over the plane of two modes, and trajectories on it.

    Attributes:
      x: coordinates of the grid, the same for both modes, shape (points,).
      dx: velocity of the first mode, shape (points, points); the second mode varies
        along the first axis.
      dy: velocity of the second mode, same shape as `dx`.
      trajectories: solutions, shape (starts, steps, 2).
    """

    x: Array
    dx: Array
    dy: Array
    trajectories: Array


def learning_rate(name: str) -> float:
    """Returns the official notebook's learning rate for networks of many neurons.

    Args:
      name: name of the loss, one of `network_step.LOSSES`.

    Returns:
      The learning rate.

    Raises:
      ValueError: if the name is unknown.

    Example:
      >>> learning_rate("iso_cosine")
      0.1
    """
    check_choice("name", name, LOSSES)
    return 0.1 if "cosine" in name else 0.01


def eigenvalue_curves(
    key: Array,
    *,
    names: Sequence[str] = tuple(LOSSES),
    inputs: int = 15,
    outputs: int = 10,
    activation: str = "linear",
    steps: int = STEPS,
    steps_per_row: int = 1,
    samples: int = SAMPLES,
) -> dict[str, Curves]:
    """Computes the eigenvalues under each loss from one start: Fig. 2; Fig. 5 for ReLU.

    Args:
      key: PRNG key of the weights and the samples.
      names: names of the losses.
      inputs: dimension of the inputs.
      outputs: dimension of the projections.
      activation: "linear" or "relu"; only "linear" has a theory.
      steps: number of rows of the curves.
      steps_per_row: number of gradient steps per row, by which the learning rate is
        divided.
      samples: number of new samples per gradient step.

    Returns:
      Curves by name of the loss.

    Raises:
      ValueError: if a linear network has more outputs than inputs.

    Example:
      >>> curves = eigenvalue_curves(
      ...     jax.random.key(0), names=["iso_euclidean"], inputs=6, outputs=2, steps=5
      ... )
      >>> curves["iso_euclidean"].theory.shape
      (5, 2)

    Source: Halvagal et al. 2023, Figs. 2 and 5.
    """
    if activation == "linear" and outputs > inputs:
        raise ValueError(
            f"outputs={outputs} is larger than inputs={inputs}; choose outputs <= "
            "inputs, as the other modes of a linear network stay at zero"
        )
    rates = {name: learning_rate(name) for name in names}
    return _curves(
        key, rates, (outputs, inputs), activation, steps, steps_per_row, samples
    )


def initialization_curves(
    key: Array,
    *,
    names: Sequence[str] = ("euclidean", "cosine"),
    starts: int = 3,
    steps: int = 3_000,
    samples: int = SAMPLES,
) -> dict[str, list[Curves]]:
    """Computes the eigenvalues of two neurons from several random starts: Fig. 4.

    Args:
      key: PRNG key of the weights and the samples.
      names: names of the losses.
      starts: number of random initial weights.
      steps: number of gradient steps.
      samples: number of new samples per step.

    Returns:
      The curves of every start, by name of the loss.

    Example:
      >>> curves = initialization_curves(
      ...     jax.random.key(0), names=["iso_euclidean"], starts=2, steps=5
      ... )
      >>> [curve.simulation.shape for curve in curves["iso_euclidean"]]
      [(5, 2), (5, 2)]

    Source: Halvagal et al. 2023, Fig. 4.
    """
    rates = dict.fromkeys(names, TWO_NEURON_RATE)
    runs = [
        _curves(start_key, rates, (2, 6), "linear", steps, 1, samples)
        for start_key in jax.random.split(key, starts)
    ]
    return {name: [run[name] for run in runs] for name in names}


def eigenvalue_portrait(
    name: str, starts: Array, *, largest: float = 1.5, points: int = 16, time: float
) -> Portrait:
    """Computes the population flow of two eigenvalues and some of its solutions.

    Args:
      name: name of the loss.
      starts: initial eigenvalues, shape (starts, 2).
      largest: largest eigenvalue on both axes.
      points: number of grid points along each axis.
      time: duration of the trajectories, in units of 1/rate.

    Returns:
      The portrait over (lam_1, lam_2).

    Example:
      >>> starts = jnp.array([[0.1, 0.5]])
      >>> portrait = eigenvalue_portrait("iso_euclidean", starts, time=20.0)
      >>> print(portrait.trajectories[0, -1].round(3))
      [1. 1.]
    """
    x = jnp.linspace(largest / points, largest, points)
    grid = jnp.stack(jnp.meshgrid(x, x), axis=-1).reshape(-1, 2)
    field = jax.vmap(lambda lam: eigenvalue_flow(name, lam))(grid)
    field = field.reshape(points, points, 2)
    with jax.enable_x64(True):
        times = jnp.linspace(0, time, _TIMES)
        # One by one, as `vmap` would compile the implicit solver too.
        solutions = [
            solve_eigenvalues(name, start, times)
            for start in jnp.asarray(starts, float)
        ]
        trajectories = jnp.stack(solutions).astype(x.dtype)
    return Portrait(x, field[..., 0], field[..., 1], trajectories)


def two_neuron_trajectories(
    name: str,
    starts: Array,
    key: Array,
    *,
    inputs: int = 6,
    steps: int = STEPS,
    samples: int = SAMPLES,
) -> Array:
    """Trains two-neuron networks and returns their eigenvalues in the order of modes.

    Args:
      name: name of the loss.
      starts: initial eigenvalues, shape (starts, 2).
      key: PRNG key of the samples.
      inputs: dimension of the inputs.
      steps: number of gradient steps.
      samples: number of new samples per step.

    Returns:
      Trajectories, shape (starts, steps, 2).

    Example:
      >>> starts, key = jnp.array([[0.1, 0.5]]), jax.random.key(0)
      >>> two_neuron_trajectories("iso_euclidean", starts, key, steps=5).shape
      (1, 5, 2)
    """

    def trajectory(start: Array) -> Array:
        # Singular vectors along the axes; the flow leaves them constant.
        weights = jnp.diag(jnp.sqrt(start)).astype(jnp.float32)
        weights = jnp.pad(weights, ((0, 0), (0, inputs - 2)))
        trained = simulate_network(
            name,
            weights,
            steps=steps,
            learning_rate=TWO_NEURON_RATE,
            view_noise=VIEW_NOISE,
            samples=samples,
            key=key,
        )
        return jnp.sum(jnp.square(trained.weights), axis=-1)

    return jnp.stack([trajectory(start) for start in starts])


def representation_portrait(
    name: str,
    eigenvalues: Array,
    starts: Array,
    *,
    largest: float = 1.5,
    points: int = 16,
    time: float,
    steps: int = 2_000,
) -> Portrait:
    """Computes how the two components of one sample move under a fixed predictor.

    Args:
      name: name of the velocity, one of `velocities.VELOCITIES`.
      eigenvalues: eigenvalues of the predictor, shape (2,).
      starts: initial components, shape (starts, 2).
      largest: largest magnitude of the components on both axes.
      points: number of grid points along each axis.
      time: duration of the trajectories.
      steps: number of steps of Heun's method along the trajectories.

    Returns:
      The portrait over the components in the eigenbasis, for equal views.

    Raises:
      ValueError: if the name is unknown.

    Example:
      >>> starts, lam = jnp.array([[0.3, 1.0]]), jnp.array([0.5, 1.0])
      >>> portrait = representation_portrait("cosine", lam, starts, time=1.0, steps=100)
      >>> portrait.dx.shape, portrait.trajectories.shape
      ((16, 16), (1, 100, 2))
    """
    check_choice("name", name, VELOCITIES)

    def velocity(z: Array) -> Array:
        return VELOCITIES[name](z, z, eigenvalues)

    def step(z: Array, _: None) -> tuple[Array, Array]:
        first = velocity(z)
        second = velocity(z + time / steps * first)
        return z + time / (2 * steps) * (first + second), z

    x = jnp.linspace(-largest, largest, points)
    field = velocity(jnp.stack(jnp.meshgrid(x, x), axis=-1))
    _, trajectories = jax.lax.scan(step, starts, length=steps)
    return Portrait(x, field[..., 0], field[..., 1], trajectories.transpose(1, 0, 2))


def convergence_times(
    name: str, initial: Array, *, tolerance: float = 0.1, longest: float = 1_000.0
) -> Array:
    """Computes how long a weak mode takes to converge in the presence of a strong one.

    Args:
      name: name of the loss, standard or iso.
      initial: initial eigenvalues of the weak mode, shape (starts,); the other mode
        starts at 1.
      tolerance: relative difference between the two modes at which the weak mode has
        converged.
      longest: largest time considered.

    Returns:
      Times in units of 1/rate, shape (starts,); infinite if not converged by `longest`.

    Example:
      >>> initial = jnp.array([0.1, 0.5])
      >>> print(convergence_times("iso_euclidean", initial, longest=10.0).round(1))
      [2.2 1.1]
    """
    times = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-2, longest, _TIMES - 1)])

    def time(weak: Array) -> Array:
        lam = solve_eigenvalues(name, jnp.stack([weak, jnp.ones_like(weak)]), times)
        has_converged = lam[:, 0] > (1 - tolerance) * lam[:, 1]
        return jnp.where(has_converged.any(), times[jnp.argmax(has_converged)], jnp.inf)

    # One by one, as `vmap` would compile the implicit solver too.
    return jnp.stack([time(weak) for weak in initial])


def _curves(
    key: Array,
    rates: Mapping[str, float],
    shape: tuple[int, int],
    activation: str,
    steps: int,
    steps_per_row: int,
    samples: int,
) -> dict[str, Curves]:
    """Computes the curves of all losses in `rates` from one random start."""
    weights_key, samples_key = jax.random.split(key)
    weights = WEIGHT_DEVIATION * jax.random.normal(weights_key, shape, jnp.float32)
    curves = {}
    for name, rate in rates.items():
        simulation = simulate_network(
            name,
            weights,
            steps=(steps - 1) * steps_per_row + 1,
            learning_rate=rate / steps_per_row,
            view_noise=VIEW_NOISE,
            activation=activation,
            samples=samples,
            key=samples_key,
        ).eigenvalues[::steps_per_row]
        times = rate * jnp.arange(steps, dtype=float)
        theory = None
        if activation == "linear":
            with jax.enable_x64(True):
                start = simulation[0].astype(float)
                theory = solve_eigenvalues(name, start, times, view_noise=VIEW_NOISE)
                theory = theory.astype(times.dtype)
        curves[name] = Curves(times, simulation, theory)
    return curves
