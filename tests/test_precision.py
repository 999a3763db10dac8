"""Matrix products whose precision does not depend on the backend's default.

By default GPUs and TPUs round the factors of float32 products to 10 bits or fewer. On
the CPU this makes no difference, so the tests read the programs instead.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from isojax import spectral
from isojax.configs import digits
from isojax.dynamics import ntk_velocity, simulate_network
from isojax.evaluation import linear
from isojax.predictor import direct_predictor, update_correlation
from isojax.training.method import closed_form_predictions
from isojax.training.probe import probe_loss
from isojax.training.settings import method_settings

MATRIX, ROWS = jnp.eye(3), jnp.ones((4, 3))
LABELS = jnp.zeros(4, jnp.int32)
METHOD = method_settings(digits.get_config())


def network(predictor_from):
    return partial(
        simulate_network,
        "cosine",
        steps=2,
        learning_rate=0.1,
        samples=4,
        predictor_from=predictor_from,
        key=jax.random.key(0),
    )


PROGRAMS = {
    "update_correlation": (
        lambda c, z: update_correlation(c, z, decay=0.5),
        (MATRIX, ROWS),
    ),
    "direct_predictor": (direct_predictor, (MATRIX,)),
    "closed_form_predictions": (
        lambda c, z: closed_form_predictions(METHOD, c, [z]),
        (MATRIX, ROWS),
    ),
    "eigenvector_alignment": (spectral.eigenvector_alignment, (MATRIX, MATRIX)),
    "probe": (
        jax.grad(lambda w: probe_loss(w, ROWS, LABELS, count=jnp.float32(4))[0]),
        (jnp.ones((4, 2)),),
    ),
    "linear_readout": (
        lambda v: linear._value_and_gradient(v, MATRIX, ROWS, LABELS, 0.1),
        (jnp.ones((3, 2)),),
    ),
    "gram": (linear._gram, (ROWS,)),
    "ntk_velocity": (ntk_velocity, (jnp.ones((2, 4, 3, 3)), ROWS)),
    "network_by_weights": (network("weights"), (MATRIX,)),
    "network_by_activations": (network("activations"), (MATRIX,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_products_have_the_highest_precision(name):
    function, arguments = PROGRAMS[name]
    program = jax.jit(function).lower(*arguments).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    for line in products:
        assert "precision = [HIGHEST, HIGHEST]" in line
