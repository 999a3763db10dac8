"""Toy experiments on inputs whose directions have different variances."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from isojax.dynamics.network_flow import solve_network
from isojax.dynamics.networks import simulate_network
from isojax.dynamics.toys import VIEW_NOISE, Curves

# Duration of the simulation for weights of deviation 0.1, in units of 1/rate.
DURATIONS: Mapping[str, float] = MappingProxyType(
    {"euclidean": 40.0, "iso_euclidean": 5.0, "cosine": 2.5, "iso_cosine": 0.5}
)
_WEIGHT_DEVIATION = 0.1


class InputSpectrumCurves(NamedTuple):
    """How a linear network learns from inputs with a given spectrum.

    Attributes:
      eigenvalues: eigenvalues of the predictor.
      weights: squared norm of the flow's weights on each principal direction of the
        inputs, shape (rows, N).
    """

    eigenvalues: Curves
    weights: Array


def input_spectrum_curves(
    key: Array,
    variances: Sequence[float],
    *,
    names: Sequence[str] = tuple(DURATIONS),
    outputs: int = 3,
    rows: int = 200,
    steps_per_row: int = 10,
    samples: int = 1_000,
) -> dict[str, InputSpectrumCurves]:
    """Trains linear networks and solves their flow on inputs with a given spectrum.

    Args:
      key: PRNG key of the weights and the samples.
      variances: variances of the inputs' principal directions, shape (N,).
      names: names of the losses, among those of `DURATIONS`.
      outputs: dimension of the projections.
      rows: number of rows of the curves.
      steps_per_row: number of gradient steps per row.
      samples: number of new samples per gradient step.

    Returns:
      Curves by name of the loss.
    """
    weights_key, samples_key = jax.random.split(key)
    shape = (outputs, len(variances))
    start = _WEIGHT_DEVIATION * jax.random.normal(weights_key, shape, jnp.float32)
    curves = {}
    for name in names:
        step = DURATIONS[name] / (rows - 1) / steps_per_row
        times = step * steps_per_row * jnp.arange(rows, dtype=float)
        trained = simulate_network(
            name,
            start,
            steps=(rows - 1) * steps_per_row + 1,
            learning_rate=step,
            view_noise=VIEW_NOISE,
            samples=samples,
            input_covariance=jnp.diag(jnp.asarray(variances, jnp.float32)),
            key=samples_key,
        ).eigenvalues[::steps_per_row]
        with jax.enable_x64(True):
            covariance = jnp.diag(jnp.asarray(variances, float))
            flow = solve_network(
                name,
                start.astype(float),
                times.astype(float),
                input_covariance=covariance,
                view_noise=VIEW_NOISE,
            )
            projected = flow @ covariance @ flow.mT
            theory = jnp.linalg.eigvalsh(projected).astype(times.dtype)
            weights = jnp.sum(jnp.square(flow), axis=1).astype(times.dtype)
        curves[name] = InputSpectrumCurves(Curves(times, trained, theory), weights)
    return curves
