"""The toy experiments of the paper, as arrays ready to draw.

A one-layer network of Gaussian inputs is trained by `simulate_network` and followed by
the population flow of `solve_eigenvalues`. The settings are those of the official
notebook, but for 5,000 instead of 50,000 fresh samples a step, which moves the curves
of ten modes by 0.01 at most, by 0.06 for the cosine loss without stop-gradient.
Networks are trained in float32; their flow is solved in float64, which collapsing
modes need, and returned in JAX's default precision.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.dynamics import velocities
from isojax.dynamics.flow import FLOWS, eigenvalue_flow
from isojax.dynamics.networks import simulate_network
from isojax.dynamics.solve import solve_eigenvalues

WEIGHT_DEVIATION = 0.25
VIEW_NOISE = (0.0, 0.1)
SAMPLES = 5_000
STEPS = 1_500
TWO_NEURON_RATE = 0.01


class Curves(NamedTuple):
    """Eigenvalues of a predictor over the time of gradient flow.

    Attributes:
      times: learning rate times steps, shape (steps,).
      simulation: eigenvalues in a trained network, ascending, shape (steps, dim).
      theory: those of the population flow from the same start, or None where there is
        none; without view noise for the cosine losses.
    """

    times: Array
    simulation: Array
    theory: Array | None


class Portrait(NamedTuple):
    """A vector field over the plane of two modes, and trajectories on it.

    Attributes:
      x: the first mode, along both axes of the grid, shape (points,).
      dx: velocity of the first mode, shape (points, points), the second mode first.
      dy: velocity of the second mode, same shape.
      trajectories: shape (starts, steps, 2).
    """

    x: Array
    dx: Array
    dy: Array
    trajectories: Array


def learning_rate(name: str) -> float:
    """The official notebook's step size for a loss; two neurons always take 0.01."""
    return 0.1 if "cosine" in name else 0.01


def eigenvalue_curves(
    key: Array,
    *,
    names: Sequence[str] = tuple(FLOWS),
    inputs: int = 15,
    outputs: int = 10,
    activation: str = "linear",
    steps: int = STEPS,
    samples: int = SAMPLES,
) -> dict[str, Curves]:
    """Eigenvalues under every loss from one start: Fig. 2, with ReLU Fig. 5.

    Args:
      key: of the weights and the samples.
      names: of the losses.
      inputs: dimension of the inputs.
      outputs: dimension of the projections.
      activation: "linear" or "relu"; the flow is that of the linear network.
      steps: of gradient descent.
      samples: fresh ones in each step.

    Returns:
      Curves by name of the loss.

    Raises:
      ValueError: if a linear network has more outputs than inputs.
    """
    if activation == "linear" and outputs > inputs:
        raise ValueError(
            f"outputs={outputs} exceed inputs={inputs}: a linear network's surplus "
            "modes stay at zero, where nothing flows; choose outputs <= inputs"
        )
    rates = {name: learning_rate(name) for name in names}
    return _curves(key, rates, (outputs, inputs), activation, steps, samples)


def initialization_curves(
    key: Array,
    *,
    names: Sequence[str] = ("euclidean", "cosine"),
    starts: int = 3,
    steps: int = 3_000,
    samples: int = SAMPLES,
) -> dict[str, list[Curves]]:
    """Two neurons from several random starts: Fig. 4.

    Args:
      key: of the weights and the samples.
      names: of the losses.
      starts: number of random initial weights.
      steps: of gradient descent.
      samples: fresh ones in each step.

    Returns:
      For each loss the curves of every start.
    """
    rates = dict.fromkeys(names, TWO_NEURON_RATE)
    runs = [
        _curves(start_key, rates, (2, 6), "linear", steps, samples)
        for start_key in jax.random.split(key, starts)
    ]
    return {name: [run[name] for run in runs] for name in names}


def eigenvalue_portrait(
    name: str, starts: Array, *, largest: float = 1.5, points: int = 16, time: float
) -> Portrait:
    """The population flow of two eigenvalues, with solutions.

    Args:
      name: of the loss.
      starts: initial eigenvalues, shape (starts, 2).
      largest: eigenvalue shown on both axes.
      points: along each axis.
      time: that the trajectories last.

    Returns:
      The portrait over (lam_1, lam_2).
    """
    x = jnp.linspace(largest / points, largest, points)
    grid = jnp.stack(jnp.meshgrid(x, x), axis=-1).reshape(-1, 2)
    field = jax.jit(jax.vmap(lambda lam: eigenvalue_flow(name, lam)))(grid)
    field = field.reshape(points, points, 2)
    with jax.enable_x64(True):
        times = jnp.linspace(0, time, 200)
        solve = jax.jit(jax.vmap(lambda lam: solve_eigenvalues(name, lam, times)))
        trajectories = solve(jnp.asarray(starts, float)).astype(x.dtype)
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
    """Eigenvalues of trained two-neuron networks, in the order of their modes.

    Args:
      name: of the loss.
      starts: initial eigenvalues, shape (starts, 2).
      key: of the samples.
      inputs: dimension of the inputs.
      steps: of gradient descent.
      samples: fresh ones in each step.

    Returns:
      Trajectories, shape (starts, steps, 2).
    """

    def trajectory(start: Array) -> Array:
        # Singular vectors along the axes, which the flow leaves where they are.
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
    """How one sample's two components move under a predictor held fixed.

    Args:
      name: of a velocity in `isojax.dynamics.velocities`.
      eigenvalues: of the predictor, shape (2,).
      starts: initial components, shape (starts, 2).
      largest: component shown, either way, on both axes.
      points: along each axis.
      time: that the trajectories last.
      steps: of Heun's method along them.

    Returns:
      The portrait over the components in the eigenbasis, both views equal.
    """

    def velocity(z: Array) -> Array:
        return getattr(velocities, name)(z, z, eigenvalues)

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
    """How long a weak mode takes beside a strong one.

    Args:
      name: of the loss, standard or iso.
      initial: first eigenvalues of the weak mode, shape (starts,); the other mode
        starts at 1.
      tolerance: relative distance at which the weak mode has arrived: from 1 for the
        Euclidean losses, from the other mode for the cosine losses.
      longest: time after which to give up.

    Returns:
      Times in units of 1/rate, shape (starts,); infinite where `longest` is not enough.
    """
    times = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-2, longest, 2_000)])

    def time(weak: Array) -> Array:
        lam = solve_eigenvalues(name, jnp.stack([weak, jnp.ones_like(weak)]), times)
        has_arrived = lam[:, 0] > (1 - tolerance) * lam[:, 1]
        return jnp.where(has_arrived.any(), times[jnp.argmax(has_arrived)], jnp.inf)

    return jax.jit(jax.vmap(time))(initial)


def _curves(
    key: Array,
    rates: Mapping[str, float],
    shape: tuple[int, int],
    activation: str,
    steps: int,
    samples: int,
) -> dict[str, Curves]:
    """Curves of the losses that `rates` names, from one random start."""
    weights_key, samples_key = jax.random.split(key)
    weights = WEIGHT_DEVIATION * jax.random.normal(weights_key, shape, jnp.float32)
    curves = {}
    for name, rate in rates.items():
        simulation = simulate_network(
            name,
            weights,
            steps=steps,
            learning_rate=rate,
            view_noise=VIEW_NOISE,
            activation=activation,
            samples=samples,
            key=samples_key,
        ).eigenvalues
        times = rate * jnp.arange(steps, dtype=float)
        theory = None
        if activation == "linear":
            noise = (0.0, 0.0) if "cosine" in name else VIEW_NOISE
            with jax.enable_x64(True):
                start = simulation[0].astype(float)
                theory = solve_eigenvalues(name, start, times, view_noise=noise)
                theory = theory.astype(times.dtype)
        curves[name] = Curves(times, simulation, theory)
    return curves
