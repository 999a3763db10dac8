import jax
import numpy as np
import pytest

from isojax.training.checkpoint import Checkpoints


@pytest.fixture
def saved(tmp_path, make_state):
    """A run's folder with the checkpoints of steps 1 and 2."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.save(make_state(2))
    return tmp_path


@pytest.fixture(scope="session")
def same():
    """`same(a, b)` tells whether two states are equal bit for bit."""

    def compare(a, b):
        a, b = (s.replace(key=jax.random.key_data(s.key)) for s in (a, b))
        equal = jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), a, b)
        return jax.tree.all(equal)

    return compare
