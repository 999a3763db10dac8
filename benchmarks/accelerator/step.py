"""Times the training step on one accelerator, beside PyTorch, as Markdown.

    python -m benchmarks.accelerator.step [--batch=512] [--width=64] [--projections=256]
                                          [--steps=10] [--repetitions=7]

IsoLoss with the cosine metric and EMA, the network of configs/cifar10.py, random images
of 32×32 pixels. A measurement is the wall time of several steps over their number;
only the last step of them is waited for. The programs run in turn. PyTorch's step has
the same weights, channels last, autocast in bfloat16, and is given the views, while
isojax computes them in its step. Both use TF32 in float32.
"""

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.timing import alternate, markdown, median, spread
from isojax.compilation import configure_cpu, enable_compilation_cache
from isojax.configs import cifar10
from isojax.predictor import direct_predictor
from isojax.training.settings import view_pair
from isojax.training.step import make_views
from isojax.training.synthetic_step import SyntheticStep

HAS_TORCH = importlib.util.find_spec("torch") is not None


def main() -> None:
    """Prints the tables, one row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--projections", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    configure_cpu()
    enable_compilation_cache("runs/profile")
    device = jax.devices()[0]
    print(
        f"\n### Training step, batch {arguments.batch}\n\n{device.device_kind}, "
        f"{arguments.repetitions} measurements of {arguments.steps} steps, medians.\n"
    )
    print(
        markdown(["precision", "program", "ms", "min to max", "images/s", "ratio"], []),
        end="",
    )
    parts = []
    for precision in ("float32", "bfloat16"):
        parts.append(_compare(precision, arguments))
    print("\nratio: the time of PyTorch's program divided by that of isojax.\n")
    columns = ["precision", "part of the step, compiled alone", "ms", "share of step"]
    print(markdown(columns, [row for rows in parts for row in rows]), flush=True)


def _config(precision: str, arguments: argparse.Namespace) -> ConfigDict:
    config = cifar10.get_config()
    with config.unlocked():
        config.precision = precision
        config.batch_size = arguments.batch
        config.model.width = arguments.width
        config.model.projection_dim = arguments.projections
    return config


def _compare(precision: str, arguments: argparse.Namespace) -> list[list[str]]:
    """Prints the rows of one precision; returns those of the parts of the step."""
    config = _config(precision, arguments)
    synthetic = SyntheticStep(config)
    first = jax.device_get(synthetic.state)
    views = [jax.device_get(view) for view in _views(config, synthetic)()]
    programs: dict[str, Callable[[], Any]] = {
        "isojax": lambda: synthetic.step()["loss"]
    }
    _log(f"{precision}: first loss of isojax {float(programs['isojax']())}")
    if HAS_TORCH:
        for name, is_compiled in (("PyTorch", False), ("torch.compile", True)):
            try:
                step = _torch_step(config, first, views, is_compiled=is_compiled)
                _log(f"{precision}: first loss of {name} {float(step())}")
                programs[name] = step
            except Exception:
                _log(traceback.format_exc())
                print(f"| {precision} | {name} | failed | | | |", flush=True)
    works = [_several(program, arguments.steps) for program in programs.values()]
    timings = alternate(works, arguments.repetitions)
    seconds = [median(each).wall / arguments.steps for each in timings]
    for name, each, time in zip(programs, timings, seconds, strict=True):
        unit = 1e-3 * arguments.steps
        rate, ratio = arguments.batch / time, time / seconds[0]
        print(
            f"| {precision} | {name} | {time * 1e3:.2f} | {spread(each, unit)} | "
            f"{rate:,.0f} | {ratio:.2f} |",
            flush=True,
        )
    return _measure_parts(precision, synthetic, config, seconds[0], arguments)


def _measure_parts(
    precision: str,
    synthetic: SyntheticStep,
    config: ConfigDict,
    step_seconds: float,
    arguments: argparse.Namespace,
) -> list[list[str]]:
    correlation = jnp.array(synthetic.state.correlation)
    method = config.method
    eigh = jax.jit(lambda c: jnp.linalg.eigh(c, symmetrize_input=True))
    predictor = jax.jit(
        lambda c: direct_predictor(
            c, alpha=method.alpha, epsilon=method.epsilon, normalize=method.normalize
        )
    )
    dim = len(correlation)
    parts = {
        "both views of the images": _views(config, synthetic),
        f"eigh of {dim}×{dim}": lambda: eigh(correlation),
        f"predictor of {dim} dimensions, with eigh": lambda: predictor(correlation),
    }
    works = [_several(part, arguments.steps) for part in parts.values()]
    timings = alternate(works, arguments.repetitions)
    rows = []
    for name, each in zip(parts, timings, strict=True):
        seconds = median(each).wall / arguments.steps
        share = f"{seconds / step_seconds:.1%}"
        rows.append([precision, name, f"{seconds * 1e3:.2f}", share])
    return rows


def _views(config: ConfigDict, synthetic: SyntheticStep) -> Callable[[], Any]:
    key = jax.random.fold_in(synthetic.state.key, synthetic.state.step)
    batch = jax.device_put(synthetic.host_batch)
    views = view_pair(config)
    compute = jax.jit(lambda key, batch: make_views(key, batch, views=views))
    return lambda: compute(key, batch)


def _torch_step(
    config: ConfigDict, first: Any, views: list, *, is_compiled: bool
) -> Callable[[], Any]:
    import torch

    from benchmarks.torch_step import make_torch_step

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return make_torch_step(config, first, views, device=device, is_compiled=is_compiled)


def _several(step: Callable[[], Any], steps: int) -> Callable[[], Any]:
    """Runs a step several times and waits for the last."""

    def run() -> Any:
        for _ in range(steps):
            result = step()
        return float(result) if hasattr(result, "item") else result

    return run


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
