import atexit
import os
import shutil
import tempfile
from importlib import metadata

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time passes in compiling programs that then run for milliseconds.
flags = "--xla_backend_optimization_level=0"
if metadata.version("jax").startswith("0.10."):  # later versions reject the flag
    flags += " --xla_cpu_use_fusion_emitters=false"  # compiles in half the time
os.environ.setdefault("XLA_FLAGS", flags)
# As `configure_cpu` sets it for the commands; inherited by processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What one test has compiled, the others load: in this process, in the workers of
# pytest-xdist and in the processes that tests start, all of which inherit the setting.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = tempfile.mkdtemp(prefix="isojax-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Several devices on any machine, for the tests of code that is spread over them.
jax.config.update("jax_num_cpu_devices", 4)
# A missing axis is a mistake more often than intended broadcasting.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def report_figure(record_property):
    """Returns a function that adds a line to pytest's summary."""
    return lambda line: record_property("figure", line)


def pytest_terminal_summary(terminalreporter):
    """Prints the lines of `report_figure`, those of pytest-xdist's workers, too."""
    lines = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figure"
    ]
    if lines:
        terminalreporter.section("figures")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def make_state():
    """Returns a function that makes the state of a run, a few kilobytes in size."""
    import optax

    from isojax.training.probe import init_probe
    from isojax.training.state import TrainState

    optimizer = optax.sgd(lambda step: 0.1 / (1 + step), momentum=0.9)

    def make(step, width=40, target=True):
        key = jax.random.key(step)
        shapes = {
            "backbone": {"kernel": (3, 3, 1, width), "bias": (width,)},
            "projector": {"kernel": (width, width)},
        }
        is_shape = {"is_leaf": lambda node: isinstance(node, tuple)}
        params = jax.tree.map(lambda s: jax.random.normal(key, s), shapes, **is_shape)
        return TrainState(
            step=jax.numpy.int32(step),
            params=params,
            batch_stats={"backbone": {"mean": jax.random.normal(key, (width,))}},
            target_params=jax.tree.map(lambda p: p + 1, params) if target else {},
            opt_state=optimizer.init(params),
            correlation=jax.random.normal(key, (8, 8)),
            probe=init_probe(width, 10),
            key=key,
        )

    return make


@pytest.fixture(scope="session")
def same():
    """Returns a function that compares two states bit for bit."""

    def compare(a, b):
        a, b = (s.replace(key=jax.random.key_data(s.key)) for s in (a, b))
        equal = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), a, b)
        return jax.tree.all(equal)

    return compare


@pytest.fixture
def memory_bucket(tmp_path, monkeypatch):
    """Returns a run in a bucket that is in the memory of this process."""
    import fsspec

    from isojax.runs.bucket import Bucket

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = fsspec.filesystem("memory")
    yield Bucket("memory://bkt/runs/small")
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def x64():
    """Enables 64-bit floats for one test; finite differences need them."""
    with jax.enable_x64(True):
        yield
