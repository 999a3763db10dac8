import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import fixed_point, simulate_network, solve_eigenvalues
from isojax.dynamics.flow import FLOWS, eigenvalue_flow

pytestmark = pytest.mark.usefixtures("x64")

START = np.array([0.1, 0.5, 0.9])
NOISE = (0.5, 0.3)
NOISY, DECAYED = {"view_noise": NOISE}, {"weight_decay": 0.1}


@pytest.mark.parametrize(
    ("name", "settings", "stability"),
    [
        ("euclidean", {}, "stable"),
        ("euclidean", NOISY, "stable"),
        ("euclidean", DECAYED, "partial collapse"),
        ("euclidean", {"weight_decay": 0.3}, "collapse"),
        ("iso_euclidean", NOISY | DECAYED, "stable"),
        ("iso_euclidean", {"weight_decay": 1.5}, "collapse"),
        ("euclidean_no_stop_gradient", {}, "collapse"),
        ("euclidean_no_stop_gradient", NOISY, "collapse"),
        ("euclidean_no_predictor", {}, "marginal"),
        ("euclidean_no_predictor", NOISY, "collapse"),
        ("cosine", {}, "stable"),
        ("iso_cosine", {}, "stable"),
        ("cosine_no_predictor", {}, "marginal"),
        ("cosine_no_predictor", DECAYED, "collapse"),
        *(
            pytest.param(name, settings, stability, marks=pytest.mark.slow)
            for name, settings, stability in [
                ("cosine", NOISY, "stable"),
                ("cosine", {"weight_decay": 0.3}, "collapse"),
                ("iso_cosine", NOISY, "stable"),
                ("cosine_near_uniform", {}, "stable"),
                ("cosine_near_uniform", NOISY, "stable"),
                ("cosine_no_stop_gradient", {}, "partial collapse"),
                ("cosine_no_predictor", NOISY, "stable"),
            ]
        ),
    ],
)
def test_a_long_flow_ends_there(name, settings, stability):
    end = fixed_point(name, jnp.array(START), **settings)
    assert end.stability == stability
    # With vanishing weights the flow of the cosine metric becomes infinitely fast.
    last = 60.0 if (name, stability) == ("cosine", "collapse") else 500.0
    long = solve_eigenvalues(
        name, jnp.array(START), jnp.array([0.0, last / 10, last]), **settings
    )
    np.testing.assert_allclose(long[-1], end, rtol=1e-6, atol=1e-6)
    if stability in ("stable", "partial collapse"):
        flow = eigenvalue_flow(name, jnp.maximum(jnp.array(end), 1e-30), **settings)
        np.testing.assert_allclose(flow, 0, atol=1e-9)


@pytest.mark.parametrize("name", ["euclidean", "iso_euclidean"])
def test_rates_of_the_euclidean_losses(name):
    end = fixed_point(name, jnp.array(START), alpha=0.7, view_noise=NOISE)
    # -2 alpha (1 + sigma^2) lam^2 and -2 alpha, with lam = 1 / (1 + sigma^2).
    rate = 1.4 if name == "iso_euclidean" else 1.4 / 1.25
    np.testing.assert_allclose(end.rates, -rate, rtol=1e-9)
    np.testing.assert_allclose(end, 1 / 1.25, rtol=1e-12)


def test_weak_and_strong_modes_under_weight_decay():
    # lam^2 - lam + 0.1875 = 0 has the roots 1/4 and 3/4.
    start = jnp.array([0.2, 0.25, 0.3])
    end = fixed_point("euclidean", start, weight_decay=0.1875)
    np.testing.assert_allclose(end, [0, 0.25, 0.75], atol=1e-12)
    assert end.stability == "unstable"
    np.testing.assert_allclose(end.rates[-1], 2 * 0.25 * 0.5, rtol=1e-9)


def test_modes_above_one_stop_there_without_stop_gradient():
    end = fixed_point("euclidean_no_stop_gradient", jnp.array([1.0, 1.5]))
    np.testing.assert_array_equal(end, 1)
    assert end.stability == "marginal"


def test_deviations_from_the_equal_state_decay_at_the_rates():
    end = fixed_point("iso_cosine", jnp.array(START), alpha=0.5)
    np.testing.assert_allclose(end.rates[-1], 0, atol=1e-9 * -end.rates[0])
    deviation = 1e-4 * jnp.array([1.0, -1.0, 0.0])
    flow = eigenvalue_flow("iso_cosine", end.eigenvalues + deviation, alpha=0.5)
    np.testing.assert_allclose(flow[0] / deviation[0], end.rates[0], rtol=1e-3)


@pytest.mark.long
def test_a_trained_network_ends_there():
    weights = jnp.zeros((2, 4)).at[:, :2].set(jnp.diag(jnp.sqrt(jnp.array([0.3, 0.8]))))
    for name in ("euclidean", "cosine"):
        trained = simulate_network(
            name,
            weights,
            steps=2_000,
            learning_rate=0.02,
            view_noise=(0.1, 0.1),
            samples=2_000,
            key=jax.random.key(0),
        )
        end = fixed_point(name, jnp.array([0.3, 0.8]), view_noise=(0.1, 0.1))
        np.testing.assert_allclose(trained.eigenvalues[-1], end, atol=0.02)


@pytest.mark.slow  # compiles a solver
def test_noise_lets_modes_survive_without_stop_gradient():
    name, start = "cosine_no_stop_gradient", jnp.array([0.01, 0.8, 0.9, 1.0])
    end = fixed_point(name, start, view_noise=NOISE)
    assert end.stability == "partial collapse"
    np.testing.assert_allclose(end, [0, 0.9, 0.9, 0.9], atol=0.01)
    np.testing.assert_allclose(np.sum(end), jnp.sum(start), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "stability"), [("cosine", "stable"), ("cosine_no_predictor", "marginal")]
)
def test_stability_of_a_cosine_loss_does_not_depend_on_the_scale(name, stability):
    for scale in (1e-6, 1.0, 1e6):
        end = fixed_point(name, scale * jnp.array([1.0, 2.0]), alpha=0.5)
        assert end.stability == stability


@pytest.mark.slow  # compiles a solver
def test_the_end_of_a_solved_flow_scales_with_its_start():
    start, ends = jnp.array([1.0, 2.0]), []
    for scale in (1.0, 1e6):
        end = fixed_point(
            "cosine_no_stop_gradient", scale * start, alpha=0.5, view_noise=(0.5, 0.5)
        )
        assert end.stability == "stable"
        ends.append(end.eigenvalues / scale)
    np.testing.assert_allclose(*ends, rtol=1e-6)
    np.testing.assert_allclose(ends[0], [np.sqrt(2.5)] * 2, rtol=1e-6)


def test_dtype_and_bad_input():
    end = fixed_point("cosine", jnp.float32(START))
    assert end.eigenvalues.dtype == end.rates.dtype == jnp.float32
    for settings, message in [
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"view_noise": (0.1, -0.1)}, "view_noise=-0.1"),
        ({"alpha": 0.0}, "alpha=0.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            fixed_point("cosine", jnp.array(START), **settings)
    with pytest.raises(ValueError, match=", ".join(FLOWS)):
        fixed_point("cos", jnp.array(START))
