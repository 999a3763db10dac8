import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isojax.dynamics import simulate_network, solve_eigenvalues, solve_network
from isojax.dynamics.flow import FLOWS
from isojax.dynamics.network_flow import network_velocity
from isojax.dynamics.network_step import COSINE_LOSSES, EUCLIDEAN_LOSSES, LOSSES

pytestmark = pytest.mark.usefixtures("x64")

OUTPUTS, INPUTS = 3, 5
NOISE = (0.3, 0.5)
TIMES = np.linspace(0, 5, 6)
FAST = {"iso_euclidean", "cosine"}  # the others compile for seconds each
NAMES = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
    for name in FLOWS
]


def make_weights():
    rng = np.random.default_rng(0)
    return jnp.array(rng.normal(size=(OUTPUTS, INPUTS)) / np.sqrt(INPUTS))


def make_covariance():
    root = np.random.default_rng(1).normal(size=(INPUTS, INPUTS))
    return jnp.array(root @ root.T / INPUTS + 0.1 * np.eye(INPUTS))


def velocity(name, weights, covariance, **settings):
    defaults = {"alpha": 1.0, "rate": 1.0, "view_noise": NOISE, "weight_decay": 0.0}
    return network_velocity(FLOWS[name], weights, covariance, **(defaults | settings))


@pytest.mark.parametrize("name", NAMES)
def test_uncorrelated_inputs_give_the_flow_of_the_eigenvalues(name):
    weights = make_weights()
    solution = solve_network(name, weights, TIMES, view_noise=NOISE)
    assert solution.shape == (len(TIMES), OUTPUTS, INPUTS)
    np.testing.assert_allclose(solution[0], weights, rtol=1e-14)
    lam = np.linalg.svd(solution, compute_uv=False)[:, ::-1] ** 2
    expected = solve_eigenvalues(
        name, jnp.array(lam[0]), jnp.array(TIMES), view_noise=NOISE
    )
    np.testing.assert_allclose(lam, expected, atol=1e-8)


@pytest.mark.parametrize("name", EUCLIDEAN_LOSSES)
def test_the_euclidean_velocity_is_a_step_on_the_expected_loss(name):
    weights, covariance = make_weights(), make_covariance()
    settings = {"alpha": 0.7, "weight_decay": 0.05}
    steps = simulate_network(
        name,
        weights,
        steps=2,
        learning_rate=0.1,
        view_noise=NOISE,
        samples=None,
        input_covariance=covariance,
        key=None,
        **settings,
    ).weights
    expected = velocity(name, weights, covariance, **settings)
    np.testing.assert_allclose((steps[1] - steps[0]) / 0.1, expected, atol=1e-12)


@pytest.mark.parametrize("name", COSINE_LOSSES)
def test_the_cosine_velocity_is_the_average_of_steps_on_samples(name):
    weights, covariance = make_weights(), make_covariance()

    def step(key):
        steps = simulate_network(
            name,
            weights,
            steps=2,
            learning_rate=1.0,
            view_noise=NOISE,
            samples=2_000,
            input_covariance=covariance,
            key=key,
        ).weights
        return steps[1] - steps[0]

    sampled = jax.jit(jax.vmap(step))(jax.random.split(jax.random.key(0), 50))
    error = sampled.std(0) / np.sqrt(len(sampled))
    expected = velocity(name, weights, covariance)
    assert np.abs((sampled.mean(0) - expected) / error).max() < 5
    assert np.abs(expected / error).max() > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_network_follows_the_flow_for_any_covariance(name):
    if name not in LOSSES:
        return
    weights, covariance = make_weights(), make_covariance()
    settings = {"input_covariance": covariance, "view_noise": NOISE}
    is_exact = name in EUCLIDEAN_LOSSES
    rate = 0.005 if is_exact else 0.01  # the steps differ from the flow in proportion
    trained = simulate_network(
        name,
        weights,
        steps=round(TIMES[-1] / rate) + 1,
        learning_rate=rate,
        samples=None if is_exact else 2_000,
        key=jax.random.key(0),
        **settings,
    )
    stride = round(TIMES[1] / rate)
    # Of the shape and settings of the first test, which has compiled the solver.
    solution = solve_network(name, weights, TIMES, **settings)
    tolerance = 1e-3 if is_exact else 0.02
    np.testing.assert_allclose(trained.weights[::stride], solution, atol=tolerance)
    projected = solution[-1] @ covariance @ solution[-1].T
    np.testing.assert_allclose(
        trained.eigenvalues[-1], np.linalg.eigvalsh(projected), atol=2 * tolerance
    )
    assert np.abs(solution[-1] - solution[0]).max() > 4 * 0.02


def test_the_cosine_losses_conserve_the_sum_of_squared_weights():
    weights, covariance = make_weights(), make_covariance()
    for name in ("cosine", "cosine_no_stop_gradient", "cosine_no_predictor"):
        for alpha in (0.5, 1.0):
            change = velocity(name, weights, covariance, alpha=alpha) * weights
            assert abs(jnp.sum(change)) < 1e-12 * jnp.sum(jnp.abs(change))


def test_the_flow_does_not_depend_on_the_basis_of_outputs_and_inputs():
    weights, covariance = make_weights(), make_covariance()
    rng = np.random.default_rng(2)
    q, p = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (OUTPUTS, INPUTS))
    for name in ("euclidean", "iso_cosine"):
        expected = q @ velocity(name, weights, covariance) @ p.T
        turned = velocity(name, q @ weights @ p.T, p @ covariance @ p.T)
        np.testing.assert_allclose(turned, expected, atol=1e-12)


def test_iso_losses_grow_small_weights_at_the_rates_of_the_inputs():
    variances = jnp.array([0.5, 1.0, 2.0])
    weights = 1e-4 * jnp.eye(3)
    solution = solve_network(
        "iso_euclidean",
        weights,
        jnp.array([0.0, 2.0]),
        input_covariance=jnp.diag(variances),
    )
    growth = jnp.log(jnp.diagonal(solution[1] / 1e-4))
    np.testing.assert_allclose(growth, 2.0 * variances, rtol=1e-3)


def test_more_outputs_than_inputs():
    weights = make_weights().T
    covariance = make_covariance()[:OUTPUTS, :OUTPUTS]
    for name in FLOWS:
        flow = velocity(name, weights, covariance)
        assert np.isfinite(flow).all()
        # The rows stay in the space that they span.
        rest = np.eye(INPUTS) - weights @ np.linalg.pinv(weights)
        np.testing.assert_allclose(rest @ flow, 0, atol=1e-12)


def test_transformations_and_single_precision():
    weights, covariance = make_weights(), make_covariance()

    def solve(weights, covariance, sigma):
        return solve_network(
            "iso_euclidean",
            weights,
            jnp.array(TIMES, weights.dtype),
            input_covariance=covariance,
            view_noise=(sigma, 0.0),
        )

    alone = solve(weights, covariance, 0.3)
    batch = jax.jit(jax.vmap(solve))(
        jnp.stack([weights, 2 * weights]),
        jnp.stack([covariance, covariance]),
        jnp.array([0.3, 0.0]),
    )
    np.testing.assert_allclose(batch[0], alone, atol=1e-9)
    single = solve(jnp.float32(weights), jnp.float32(covariance), 0.3)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, alone, atol=1e-4)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(3), r"input_covariance .*\(5, 5\)"),
        (np.ones(5), r"input_covariance .*\(5, 5\)"),
        (np.triu(np.ones((5, 5))), "input_covariance .*symmetric"),
        (np.full((5, 5), np.nan), "input_covariance .*symmetric"),
        (np.diag([1.0, 1.0, 1.0, 1.0, -1.0]), "input_covariance .*eigenvalue is -1"),
        (np.zeros((5, 5)), "input_covariance .*positive"),
        (np.eye(5) * (1 + 0j), "input_covariance must be real"),
        ("identity", "input_covariance must be an array of numbers"),
    ],
)
def test_bad_covariances(covariance, message):
    weights = make_weights()
    with pytest.raises(ValueError, match=message):
        solve_network("cosine", weights, TIMES, input_covariance=covariance)
    with pytest.raises(ValueError, match=message):
        simulate_network(
            "cosine",
            weights,
            steps=1,
            learning_rate=0.1,
            input_covariance=covariance,
            key=jax.random.key(0),
        )


def test_a_covariance_must_be_positive_in_the_precision_of_the_weights():
    covariance = np.eye(5)
    covariance[0, 1] = covariance[1, 0] = 1 - 1e-9
    weights = make_weights()
    solve_network("euclidean", weights, TIMES, input_covariance=covariance)
    with pytest.raises(ValueError, match="not positive definite in float32"):
        solve_network(
            "euclidean", jnp.float32(weights), TIMES, input_covariance=covariance
        )


def test_zero_weights_are_a_fixed_point_of_the_euclidean_losses():
    solution = solve_network("euclidean", jnp.zeros((2, 5)), TIMES)
    np.testing.assert_array_equal(solution, jnp.zeros((len(TIMES), 2, 5)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cos"}, "cosine_near_uniform"),
        ({"weights": np.ones(3)}, r"weights .*\(3,\)"),
        ({"times": np.array([1.0, 1.0])}, "times=.*increasing"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"rate": -1.0}, "rate=-1.0"),
        ({"view_noise": (0.0, -0.1)}, "view_noise=-0.1"),
        ({"view_noise": 0.1}, "not a pair"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"weights": "w"}, "weights must be an array of numbers"),
    ],
)
def test_bad_input(settings, message):
    arguments = {"name": "cosine", "weights": make_weights(), "times": TIMES} | settings
    with pytest.raises(ValueError, match=message):
        solve_network(**arguments)


def test_a_flow_that_takes_too_many_steps_is_reported():
    with pytest.raises(FloatingPointError, match="before time 100000: .*too few"):
        solve_network("iso_euclidean", make_weights(), jnp.array([0.0, 1.0, 1e5]))
