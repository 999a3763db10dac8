import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax import losses
from isojax.dynamics import views
from isojax.dynamics.network_step import COSINE_LOSSES, EUCLIDEAN_LOSSES, update_weights
from isojax.predictor import direct_predictor

OUTPUTS, INPUTS = 3, 5
NOISE = (0.3, 0.2)

compiled_update = jax.jit(
    update_weights, static_argnames=("name", "activation", "predictor_from")
)


def make_weights():
    rng = np.random.default_rng(0)
    return rng.normal(size=(OUTPUTS, INPUTS)) / np.sqrt(INPUTS)


def row_loss(name, z1, z2, predictor):
    """Mean loss of projections in rows, the layout of the losses' own tests."""
    p, r = z1 @ predictor.matrix, z1 @ predictor.root
    open_target = "no_stop_gradient" in name
    if "no_predictor" in name:
        p = z1
    if name == "iso_euclidean":
        values = losses.iso_euclidean_loss(z1, p, z2)
    elif name == "iso_cosine":
        values = losses.iso_cosine_loss(z1, p, r, z2)
    else:
        kind = losses.cosine_loss if "cosine" in name else losses.euclidean_loss
        values = kind(p, z2, stop_gradient=not open_target)
    return values.mean()


@functools.partial(jax.jit, static_argnames=("name", "activation", "predictor_from"))
def reference_gradient(name, w, x1, x2, *, activation, predictor_from, alpha):
    """Gradient of the mean over explicit samples, and W_P's eigenvalues."""
    act = jax.nn.relu if activation == "relu" else lambda z: z
    z = jnp.concatenate([act(x1 @ w.T), act(x2 @ w.T)])
    correlation = w @ w.T if predictor_from == "weights" else z.T @ z / len(z)
    predictor = direct_predictor(correlation, alpha=alpha)

    def mean_loss(w):
        return row_loss(name, act(x1 @ w.T), act(x2 @ w.T), predictor)

    return jax.grad(mean_loss)(w), predictor.eigenvalues


@pytest.mark.parametrize("name", EUCLIDEAN_LOSSES)
@pytest.mark.parametrize(
    ("predictor_from", "samples"), [("weights", 40), ("activations", 4)]
)
def test_step_on_a_factor_is_the_step_on_samples_of_its_moment(
    name, predictor_from, samples, x64
):
    w = jnp.asarray(make_weights())
    columns = np.random.default_rng(1).normal(size=(2 * INPUTS, samples))
    s, u = np.linalg.eigh(columns @ columns.T / samples)
    factor = u * np.sqrt(np.clip(s, 0, None))
    settings = {
        "name": name,
        "activation": "linear",
        "predictor_from": predictor_from,
        "learning_rate": 1.0,
        "alpha": 0.7,
        "view_noise": jnp.array(NOISE),
        "weight_decay": 0.0,
    }
    shape = (1, 2, INPUTS, -1)
    on_factor = compiled_update(
        w, factor.reshape(shape), jnp.ones((1, 2 * INPUTS)), **settings
    )
    shares = jnp.full((1, samples), 1 / samples)
    on_samples = compiled_update(w, columns.reshape(shape), shares, **settings)
    for a, b in zip(on_factor, on_samples, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    x1, x2 = views.mix_views(columns.reshape(2, INPUTS, -1), jnp.array(NOISE))
    gradient, eigenvalues = reference_gradient(
        name,
        w,
        x1.T,
        x2.T,
        activation="linear",
        predictor_from=predictor_from,
        alpha=0.7,
    )
    np.testing.assert_allclose(w - on_factor[0], gradient, atol=1e-12)
    np.testing.assert_allclose(on_factor[1], eigenvalues, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "activation", "predictor_from"),
    [(name, "linear", "weights") for name in COSINE_LOSSES]
    + [(name, "relu", "activations") for name in EUCLIDEAN_LOSSES | COSINE_LOSSES]
    + [("cosine", "linear", "activations"), ("euclidean", "relu", "weights")],
)
def test_step_is_down_the_gradient_of_the_mean_loss(
    name, activation, predictor_from, x64
):
    w, samples = jnp.asarray(make_weights()), 70
    columns = np.random.default_rng(1).normal(size=(3, 2, INPUTS, 24))
    shares = (np.arange(72) < samples).reshape(3, 24) / samples
    updated, eigenvalues = compiled_update(
        w,
        columns,
        shares,
        name=name,
        activation=activation,
        predictor_from=predictor_from,
        learning_rate=0.1,
        alpha=0.7,
        view_noise=jnp.array(NOISE),
        weight_decay=0.05,
    )
    rows = columns.transpose(1, 2, 0, 3).reshape(2, INPUTS, -1)[..., :samples]
    x1, x2 = views.mix_views(rows, jnp.array(NOISE))
    gradient, expected_eigenvalues = reference_gradient(
        name,
        w,
        x1.T,
        x2.T,
        activation=activation,
        predictor_from=predictor_from,
        alpha=0.7,
    )
    np.testing.assert_allclose(updated, w - 0.1 * (gradient + 0.05 * w), atol=1e-12)
    np.testing.assert_allclose(eigenvalues, expected_eigenvalues, atol=1e-12)


def test_large_eigenvalues_are_not_clipped(x64):
    _, eigenvalues = compiled_update(
        jnp.diag(jnp.array([1.0, 2e4])),
        jnp.ones((1, 2, 2, 1)),
        jnp.ones((1, 1)),
        name="euclidean",
        activation="linear",
        predictor_from="weights",
        learning_rate=0.1,
        alpha=1.0,
        view_noise=jnp.array(NOISE),
        weight_decay=0.0,
    )
    np.testing.assert_allclose(eigenvalues, [1.0, 4e8], rtol=1e-12)
