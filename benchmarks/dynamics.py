"""Times steps of the toy networks and the population flow; prints Markdown tables.

    python -m benchmarks.dynamics

Times are medians over repetitions on the default device, without compilation. First
calls are timed once and include compilation, except for losses that share the program
of an earlier one. The networks use float32, the flow float64. If PyTorch is installed,
the same step of the networks, with new samples and automatic differentiation, is timed
in PyTorch too.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import markdown
from isojax.dynamics import simulate_network, solve_eigenvalues
from isojax.dynamics.flow import FLOWS

OUTPUTS, INPUTS, SAMPLES = 10, 15, 50_000
VIEW_NOISE = (0.0, 0.1)
LEARNING_RATE = 0.01
REPETITIONS = 7
HAS_TORCH = importlib.util.find_spec("torch") is not None
NAMES = [
    f"{prefix}{metric}{suffix}"
    for metric in ("euclidean", "cosine")
    for prefix, suffix in (
        ("", ""),
        ("iso_", ""),
        ("", "_no_stop_gradient"),
        ("", "_no_predictor"),
    )
]


def main() -> None:
    """Prints all tables."""
    print(network_steps(), flush=True)
    print(population_steps(), flush=True)
    with jax.enable_x64(True):
        print(flow_solutions(), flush=True)


def network_steps() -> str:
    """Table of the time of a training step for each loss and activation."""
    columns = ["loss", "activation", "µs per step"]
    if HAS_TORCH:
        columns += ["PyTorch, µs per step", "ratio"]
    rows = []
    for activation in ("linear", "relu"):
        for name in NAMES:
            is_drawn_whole = activation == "linear" and "euclidean" in name
            seconds = jax_step(name, activation, steps=2_000 if is_drawn_whole else 20)
            row = [name, activation, f"{seconds * 1e6:,.0f}"]
            if HAS_TORCH:
                torch_seconds = torch_step(name, activation, steps=20)
                row += [f"{torch_seconds * 1e6:,.0f}", f"{torch_seconds / seconds:.1f}"]
            rows.append(row)
    return markdown(columns, rows)


def population_steps() -> str:
    """Table of the time of 100,000 exact population steps."""
    steps = 100_000
    rows = []
    for name in NAMES[:4]:
        seconds = steps * jax_step(name, "linear", steps=steps, samples=None)
        rows.append([name, f"{seconds:.2f}"])
    return markdown(["loss", f"seconds for {steps:,} population steps"], rows)


def flow_solutions() -> str:
    """Table of the time to solve each flow from one and from many initial values."""
    initial_conditions = 1_000
    times = jnp.linspace(0.0, 150.0, 1_500)
    lam = jnp.asarray(
        np.random.default_rng(0).uniform(0.05, 2.0, (initial_conditions, OUTPUTS))
    )
    rows = []
    for name in FLOWS:
        solve = partial(solve_eigenvalues, name, times=times)
        first = seconds_of(solve, lam[0])
        one = median_seconds(solve, lam[0])
        all_at_once = seconds_of(jax.jit(jax.vmap(solve)), lam)
        rows.append([name, f"{first:.2f}", f"{one * 1e3:.1f}", f"{all_at_once:.1f}"])
    many = f"{initial_conditions:,} by vmap, first call, s"
    return markdown(["loss", "first call, s", "later calls, ms", many], rows)


def jax_step(
    name: str, activation: str, *, steps: int, samples: int | None = SAMPLES
) -> float:
    """Median seconds per step of `simulate_network`."""
    weights = initial_weights()

    def run() -> object:
        return simulate_network(
            name,
            jnp.asarray(weights),
            steps=steps,
            learning_rate=LEARNING_RATE,
            view_noise=VIEW_NOISE,
            activation=activation,
            samples=samples,
            key=jax.random.key(0),
        )

    return median_seconds(run) / steps


def torch_step(name: str, activation: str, *, steps: int) -> float:
    """Median seconds per step in PyTorch, with new samples in each step."""
    import torch

    weights = torch.tensor(initial_weights(), requires_grad=True)
    act = torch.relu if activation == "relu" else lambda z: z
    normalize = torch.nn.functional.normalize

    def step() -> None:
        x = torch.randn(SAMPLES, INPUTS)
        z1, z2 = (
            act((x + sigma * torch.randn_like(x)) @ weights.T) for sigma in VIEW_NOISE
        )
        with torch.no_grad():
            lam, u = torch.linalg.eigh(weights @ weights.T)
            predictor = (u * lam) @ u.T
            root = (u * lam.clamp(min=0).sqrt()) @ u.T
        p = z1 if "no_predictor" in name else z1 @ predictor
        target = z2 if "no_stop_gradient" in name else z2.detach()
        if name == "iso_euclidean":
            losses = 0.5 * (z1 - (z2 + z1 - p).detach()).square().sum(1)
        elif "euclidean" in name:
            losses = 0.5 * (p - target).square().sum(1)
        elif name == "iso_cosine":
            norm = p.detach().norm(dim=1)
            direction = normalize(z2.detach())
            cosine = (p.detach() * direction).sum(1) / norm
            quadratic = (z1 @ root).square().sum(1) / norm**2
            losses = -(z1 * direction).sum(1) / norm + 0.5 * cosine * quadratic
        else:
            losses = -(normalize(p) * normalize(target)).sum(1)
        (gradient,) = torch.autograd.grad(losses.mean(), weights)
        with torch.no_grad():
            weights.sub_(LEARNING_RATE * gradient)

    def run() -> None:
        for _ in range(steps):
            step()

    return median_seconds(run) / steps


def initial_weights() -> np.ndarray:
    """Weights from N(0, 1/16), shape (OUTPUTS, INPUTS)."""
    weights = np.random.default_rng(0).normal(scale=0.25, size=(OUTPUTS, INPUTS))
    return weights.astype(np.float32)


def median_seconds(run: Callable[..., object], *args: object) -> float:
    """Median seconds of a call, without the first."""
    seconds_of(run, *args)
    return statistics.median(seconds_of(run, *args) for _ in range(REPETITIONS))


def seconds_of(run: Callable[..., object], *args: object) -> float:
    """Seconds of one call, until its arrays are ready."""
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
