"""Checks the numbers and transfers of an accelerator, as Markdown.

    python -m benchmarks.accelerator.checks [--batch=64] [--only_digits]

The default device of JAX is compared with the CPU of the same process, so JAX_PLATFORMS
has to name both (`cuda,cpu`). Each check fails alone.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from isojax import data_parallel
from isojax.compilation import configure_cpu
from isojax.configs import cifar10, digits
from isojax.data import Dataset, Split
from isojax.predictor import direct_predictor
from isojax.training.assembly import build_step_context, first_state
from isojax.training.checkpoint import Checkpoints
from isojax.training.feeding import Feed, with_shared_images
from isojax.training.step import make_views, train_step

_CLASSES, _IMAGES = 10, 256


def main() -> None:
    """Prints a row for each check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only_digits", action="store_true")
    arguments = parser.parse_args()
    configure_cpu()
    print(
        "\n### Numbers and transfers\n\n| check | result |\n| --- | --- |", flush=True
    )
    _check("predictor against float64 on the CPU", _predictor)
    _check("state saved and restored", _checkpoint)
    for place in ("device", "host"):
        _check(
            f"steps under `jax.transfer_guard`, feed={place}", partial(_guard, place)
        )
    configs = {"digits": digits.get_config()}
    if not arguments.only_digits:
        configs["cifar10"] = cifar10.get_config()
    for name, config in configs.items():
        with config.unlocked():
            config.batch_size = arguments.batch
            config.optimizer.warmup_epochs = 0.0
        for precision in ("highest", None):
            _check(
                f"one step of {name} against the CPU, matmul precision "
                f"{precision or 'default'}",
                partial(_compare_step, config, precision),
            )
    print(flush=True)


def _check(name: str, check: Callable[[], str]) -> None:
    try:
        result = check()
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        line = (str(error).strip().splitlines() or [""])[0][:200].replace("|", "/")
        result = f"**failed**: {type(error).__name__}: {line}"
    print(f"| {name} | {result} |", flush=True)


def _dataset(config: ConfigDict) -> Dataset:
    rng = np.random.default_rng(0)
    side, channels = config.data.resolution, len(config.data.mean)
    images = rng.integers(0, 256, (_IMAGES, side, side, channels), dtype=np.uint8)
    split = Split(images, np.arange(_IMAGES, dtype=np.int32) % _CLASSES)
    return Dataset(split, split, split, "test", _CLASSES, ())


def _compare_step(config: ConfigDict, precision: str | None) -> str:
    accelerator, cpu = jax.devices()[0], jax.devices("cpu")[0]
    dataset = _dataset(config)
    context = build_step_context(config, dataset)
    with jax.default_device(cpu):
        state = first_state(config, dataset)
    indices = np.arange(config.batch_size, dtype=np.int32)
    batch = {
        "images": dataset.pretrain.images[indices],
        "labels": dataset.pretrain.labels[indices],
        "indices": indices,
    }

    def run(device: jax.Device) -> tuple[Any, Any, Any, Any]:
        # Functions of its own for each precision, which is not part of a call.
        views = jax.jit(lambda key, batch: make_views(key, batch, views=context.views))
        step = jax.jit(lambda state, batch: train_step(context, state, batch))
        own_state, own_batch = jax.device_put((state, batch), device)
        key = jax.random.fold_in(own_state.key, 0)
        new, report = step(own_state, own_batch)
        return jax.device_get(
            (new.params, new.correlation, report.metrics, views(key, own_batch))
        )

    with jax.default_matmul_precision(precision):
        ours, reference = run(accelerator), run(cpu)
    first = jax.device_get(state.params)
    change = jax.tree.map(np.subtract, ours[0], first)
    expected = jax.tree.map(np.subtract, reference[0], first)
    views = max(np.abs(a - b).max() for a, b in zip(ours[3], reference[3], strict=True))
    results = {
        "loss": _relative(ours[2]["loss"], reference[2]["loss"]),
        "gradient norm": _relative(
            ours[2]["gradient_norm"], reference[2]["gradient_norm"]
        ),
        "change of parameters": _relative(change, expected),
        "correlation": _relative(ours[1], reference[1]),
    }
    texts = [f"{name} {error:.1e}" for name, error in results.items()]
    return f"relative differences: {', '.join(texts)}; views at most {views:.1e} apart"


def _relative(found: Any, expected: Any) -> float:
    """Norm of the difference over the norm of what is expected, of all arrays."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    difference = sum(np.sum(np.square(np.float64(a) - np.float64(b))) for a, b in pairs)
    return float(
        np.sqrt(difference / sum(np.sum(np.float64(b) ** 2) for _, b in pairs))
    )


def _predictor() -> str:
    texts = []
    for dim in (64, 256):
        rng = np.random.default_rng(dim)
        vectors, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
        spectrum = np.logspace(0, -6, dim)
        correlation = np.float32((vectors * spectrum) @ vectors.T)
        s, u = np.linalg.eigh(np.float64(correlation))
        expected = (u * np.sqrt(np.clip(s, 0, None))) @ u.T
        for name, device in (("", jax.devices()[0]), ("CPU: ", jax.devices("cpu")[0])):
            matrix = jax.jit(direct_predictor)(jax.device_put(correlation, device))
            error = _relative(matrix.matrix, expected)
            texts.append(f"{name}{dim} dimensions {error:.1e}")
    return f"relative errors of W_P: {', '.join(texts)}"


def _checkpoint() -> str:
    config = digits.get_config()
    state = data_parallel.replicate(first_state(config, _dataset(config)))
    with tempfile.TemporaryDirectory() as folder:
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(state)
        with Checkpoints(folder) as checkpoints:
            restored = checkpoints.restore(state)

    def is_equal(a: Any, b: Any) -> bool:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()

    equal = jax.tree.leaves(jax.tree.map(is_equal, state, restored))
    return f"{sum(equal)} of {len(equal)} arrays equal bit for bit"


def _guard(place: str) -> str:
    config = digits.get_config()
    dataset = _dataset(config)
    context = build_step_context(config, dataset)
    step = data_parallel.MappedStep(with_shared_images(partial(train_step, context)))
    feed = Feed(dataset.pretrain, batch_size=config.batch_size, seed=0, place=place)
    state = data_parallel.replicate(first_state(config, dataset))
    for batch in feed.epoch(0):  # compiles
        state = step(state, batch, feed.shared).state
    jax.block_until_ready(state)
    steps = 0
    with jax.transfer_guard("disallow"):
        for batch in feed.epoch(1):
            state = step(state, batch, feed.shared).state
            steps += 1
    return f"{steps} steps without an implicit transfer, {feed.description}"


if __name__ == "__main__":
    main()
