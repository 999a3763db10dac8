import pytest

from isojax.training.checkpoint import Checkpoints


@pytest.fixture
def saved(tmp_path, make_state):
    """Returns a run's folder with checkpoints of steps 1 and 2."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.save(make_state(2))
    return tmp_path
