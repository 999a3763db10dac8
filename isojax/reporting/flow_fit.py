"""Fits the rate of the population flow to a measured spectrum, in a child process.

The process computes on the CPU. Otherwise a report would take an accelerator's memory
from a training run, or would have to set the platform of the calling process.
"""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

import isojax
from isojax.runs.history import floor_eigenvalues
from isojax.runs.stored_run import Arrays

FLOOR = 1e-6  # fraction of the largest eigenvalue; smaller ones are rounding errors
_SOLVED_TIMES = 400
_RATES = np.geomspace(1e-3, 1.0, 61)  # units of the flow's time per epoch


class FlowProblem(NamedTuple):
    """A measured spectrum and the flow that is fitted to it.

    Attributes:
      flow: name of the loss in `isojax.dynamics`.
      alpha: exponent of the predictor's eigenvalues.
      epochs: numbers of the measured epochs, ascending, shape (e,).
      measured: positive eigenvalues of the correlation, shape (e, modes).
      is_relative: whether the eigenvalues are relative to the largest of their epoch.
    """

    flow: str
    alpha: float
    epochs: np.ndarray
    measured: np.ndarray
    is_relative: bool


def fit_in_child_process(problem: FlowProblem) -> Arrays:
    """Calls `fit_flow` in a child process, on the CPU.

    Args:
      problem: the spectrum and its flow.

    Returns:
      The arrays that `fit_flow` returns.

    Raises:
      FloatingPointError: if the flow cannot be solved.
      subprocess.CalledProcessError: if the child process fails otherwise.
    """
    # The folder of the package, which may come from a clone that is not installed.
    paths = [str(Path(isojax.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    process = subprocess.run(
        [sys.executable, "-m", __name__],
        input=_as_bytes({n: np.array(v) for n, v in problem._asdict().items()}),
        stdout=subprocess.PIPE,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=True,
    )
    fitted = _from_bytes(process.stdout)
    if not fitted:
        raise FloatingPointError(f"the flow {problem.flow} cannot be solved")
    return fitted


def fit_flow(problem: FlowProblem) -> Arrays:
    """Solves the flow from the first measured spectrum and fits its rate.

    The rate minimises the mean square of the differences of the logarithms.

    Args:
      problem: the spectrum and its flow.

    Returns:
      `predicted`, the flow's eigenvalues of the correlation at the epochs, shape
      (e, modes), and `rate`, the flow's time per epoch, a scalar.

    Raises:
      FloatingPointError: if the flow cannot be solved.
    """
    import jax
    import jax.numpy as jnp

    from isojax.dynamics import solve_eigenvalues

    flow, alpha, epochs, measured, is_relative = problem
    # The flow does not depend on time explicitly: one solution serves all rates.
    span = epochs[-1] - epochs[0]
    times = np.geomspace(1e-3, span * _RATES[-1], _SOLVED_TIMES)
    with jax.enable_x64(True):
        start = jnp.asarray(measured[0] ** alpha)
        solution = np.asarray(
            solve_eigenvalues(flow, start, jnp.asarray(times), alpha=alpha)
        )
    solution = np.vstack([measured[:1], solution ** (1 / alpha)])
    logarithm = np.log(floor_eigenvalues(solution, fraction=FLOOR, axis=1))
    if is_relative:
        logarithm -= logarithm.max(axis=1, keepdims=True)
    times = np.append(0.0, times)

    def at(rate: float) -> np.ndarray:
        wanted = rate * (epochs - epochs[0])
        return np.stack(
            [np.interp(wanted, times, mode) for mode in logarithm.T], axis=1
        )

    def distance(rate: float) -> float:
        return float(np.mean(np.square(at(rate) - np.log(measured))))

    rate = min(_RATES, key=distance)
    return {"predicted": np.exp(at(rate)), "rate": np.array(rate)}


def _as_bytes(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub lacks **kwargs
    return buffer.getvalue()


def _from_bytes(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def _main() -> None:
    """Reads a `FlowProblem` from standard input, and writes the result of `fit_flow`.

    Writes no arrays if the flow cannot be solved.
    """
    arrays = _from_bytes(sys.stdin.buffer.read())
    problem = FlowProblem(
        flow=str(arrays["flow"]),
        alpha=float(arrays["alpha"]),
        epochs=arrays["epochs"],
        measured=arrays["measured"],
        is_relative=bool(arrays["is_relative"]),
    )
    try:
        fitted = fit_flow(problem)
    except FloatingPointError:
        fitted = {}
    sys.stdout.buffer.write(_as_bytes(fitted))


if __name__ == "__main__":
    _main()
