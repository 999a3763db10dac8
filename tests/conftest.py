import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs here run for milliseconds, so that optimising them costs more than it gains.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402
import pytest  # noqa: E402

# Several devices on any machine, for the tests of code that is spread over them.
jax.config.update("jax_num_cpu_devices", 4)
# A missing axis is a mistake more often than a wish to broadcast.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """64-bit floats for one test, where finite differences need them."""
    with jax.enable_x64(True):
        yield
