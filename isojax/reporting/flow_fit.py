"""Fits the rate of the population flow to a measured spectrum, in a child process.

The process computes on the CPU. Otherwise a report would take an accelerator's memory
from a training run, or would have to set the platform of the calling process.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import isojax
from isojax.runs.history import floor_eigenvalues
from isojax.runs.stored_run import Arrays

FLOOR = 1e-6  # fraction of the largest eigenvalue; smaller ones are rounding errors
_SOLVED_TIMES = 400
_RATES = np.geomspace(1e-3, 1.0, 61)  # units of the flow's time per epoch


def fit_in_child_process(
    flow: str,
    alpha: float,
    epochs: np.ndarray,
    measured: np.ndarray,
    is_relative: bool,
) -> Arrays:
    """Calls `fit_flow` in a child process, on the CPU.

    Arguments and result are those of `fit_flow`.

    Raises:
      FloatingPointError: if the flow cannot be solved.
      subprocess.CalledProcessError: if the child process fails otherwise.
    """
    arguments = {
        "flow": np.array(flow),
        "alpha": np.array(alpha),
        "epochs": epochs,
        "measured": measured,
        "is_relative": np.array(is_relative),
    }
    # The folder of the package, which may come from a clone that is not installed.
    paths = [str(Path(isojax.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    process = subprocess.run(
        [sys.executable, "-m", __name__],
        input=_as_bytes(arguments),
        stdout=subprocess.PIPE,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=True,
    )
    fitted = _from_bytes(process.stdout)
    if not fitted:
        raise FloatingPointError(f"the flow {flow} cannot be solved")
    return fitted


def fit_flow(
    flow: str,
    alpha: float,
    epochs: np.ndarray,
    measured: np.ndarray,
    is_relative: bool,
) -> Arrays:
    """Solves the flow from the first measured spectrum and fits its rate.

    The rate minimises the mean square of the differences of the logarithms.

    Args:
      flow: name of the loss in `isojax.dynamics`.
      alpha: exponent of the predictor's eigenvalues.
      epochs: shape (e,), ascending.
      measured: positive eigenvalues of the correlation, ascending, shape (e, modes).
      is_relative: whether the eigenvalues are relative to the largest of their epoch.

    Returns:
      `predicted`, the flow's eigenvalues of the correlation at the epochs, shape
      (e, modes), and `rate`, the flow's time per epoch, a scalar.

    Raises:
      FloatingPointError: if the flow cannot be solved.
    """
    import jax
    import jax.numpy as jnp

    from isojax.dynamics import solve_eigenvalues

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
    """Reads the arguments of `fit_flow` from standard input, and writes its result.

    Writes no arrays if the flow cannot be solved.
    """
    arguments = _from_bytes(sys.stdin.buffer.read())
    try:
        fitted = fit_flow(
            str(arguments["flow"]),
            float(arguments["alpha"]),
            arguments["epochs"],
            arguments["measured"],
            bool(arguments["is_relative"]),
        )
    except FloatingPointError:
        fitted = {}
    sys.stdout.buffer.write(_as_bytes(fitted))


if __name__ == "__main__":
    _main()
