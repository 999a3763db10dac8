import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from isojax.dynamics import networks, views
from isojax.dynamics.network_step import update_weights
from isojax.dynamics.networks import simulate_network

OUTPUTS, INPUTS = 3, 5
EUCLIDEAN = [
    "euclidean",
    "iso_euclidean",
    "euclidean_no_stop_gradient",
    "euclidean_no_predictor",
]
COSINE = [name.replace("euclidean", "cosine") for name in EUCLIDEAN]
NAMES = EUCLIDEAN + COSINE
NOISE = (0.3, 0.2)

euclidean_losses = pytest.mark.parametrize("name", EUCLIDEAN)


def make_weights(outputs=OUTPUTS, inputs=INPUTS):
    rng = np.random.default_rng(0)
    return rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)


def simulate(name, weights=None, **settings):
    settings = {"steps": 4, "learning_rate": 0.1, "key": jax.random.key(0)} | settings
    return simulate_network(
        name, make_weights() if weights is None else weights, **settings
    )


def power_of(correlation, alpha):
    s, u = np.linalg.eigh(correlation)
    lam = np.clip(s, 0, None) ** alpha
    return lam, (u * lam) @ u.T


def expected_gradient(name, w, view_noise, alpha):
    """The gradient of the expected loss of a linear network, by hand."""
    _, p = power_of(w @ w.T, alpha)
    variance1, variance2 = 1 + np.square(view_noise)
    return {
        "euclidean": p @ p @ w * variance1 - p @ w,
        "iso_euclidean": p @ w * variance1 - w,
        "euclidean_no_stop_gradient": (
            p @ p @ w * variance1 - 2 * p @ w + w * variance2
        ),
        "euclidean_no_predictor": w * variance1 - w,
    }[name]


@pytest.mark.parametrize(
    ("name", "activation"), [("cosine", "linear"), ("iso_euclidean", "relu")]
)
def test_every_step_is_one_on_samples_drawn_with_its_key(name, activation, x64):
    key = jax.random.key(7)
    settings = {
        "activation": activation,
        "predictor_from": "activations",
        "alpha": 0.7,
        "weight_decay": 0.05,
    }
    result = simulate(
        name, samples=70, view_noise=NOISE, key=key, learning_rate=0.2, **settings
    )

    @jax.jit
    def take_step(w, step):
        # Samples are float32, and rounded differently outside a larger program.
        drawn = views.draw_samples(
            jax.random.fold_in(key, step), inputs=INPUTS, samples=70, dtype=w.dtype
        )
        return update_weights(
            w,
            *drawn,
            name=name,
            learning_rate=0.2,
            view_noise=jnp.array(NOISE),
            **settings,
        )

    w = jnp.asarray(make_weights())
    for step in range(4):
        np.testing.assert_allclose(result.weights[step], w, atol=1e-12)
        w, eigenvalues = take_step(w, step)
        np.testing.assert_allclose(result.eigenvalues[step], eigenvalues, atol=1e-12)


@euclidean_losses
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_population_step_is_the_one_computed_by_hand(name, alpha, x64):
    w = make_weights()
    result = simulate(
        name,
        w,
        samples=None,
        alpha=alpha,
        view_noise=NOISE,
        weight_decay=0.05,
        key=None,
    )
    np.testing.assert_allclose(result.weights[0], w, atol=1e-15)
    for before, after in zip(result.weights, result.weights[1:], strict=False):
        before = np.asarray(before)
        gradient = expected_gradient(name, before, NOISE, alpha) + 0.05 * before
        np.testing.assert_allclose(after, before - 0.1 * gradient, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_population_predictor_from_activations_sees_the_noise(alpha, x64):
    w = make_weights()
    result = simulate(
        "euclidean",
        w,
        samples=None,
        alpha=alpha,
        view_noise=NOISE,
        predictor_from="activations",
    )
    lam, _ = power_of(w @ w.T * (1 + np.square(NOISE).mean()), alpha)
    np.testing.assert_allclose(result.eigenvalues[0], lam, atol=1e-12)


def flow(name, lam, alpha, weight_decay):
    """d lam / dt of the expected gradient flow."""
    variance1, noise2 = 1 + NOISE[0] ** 2, NOISE[1] ** 2
    velocity = {
        "euclidean": lam**2 * (1 - variance1 * lam),
        "iso_euclidean": lam * (1 - variance1 * lam),
        "euclidean_no_stop_gradient": (
            -lam * (variance1 * lam**2 - 2 * lam + 1 + noise2)
        ),
        "euclidean_no_predictor": -(NOISE[0] ** 2) * lam,
    }[name]
    return 2 * alpha * (velocity - weight_decay * lam)


@pytest.mark.parametrize(
    ("name", "alpha", "weight_decay"),
    [(name, 1.0, 0.0) for name in EUCLIDEAN] + [("iso_euclidean", 0.5, 0.02)],
)
def test_population_steps_follow_the_flow_to_first_order(
    name, alpha, weight_decay, x64
):
    lam, _ = power_of(make_weights() @ make_weights().T, alpha)
    duration, errors = 2.0, []
    for learning_rate in (2e-3, 1e-3):
        steps = round(duration / learning_rate) + 1
        result = simulate(
            name,
            steps=steps,
            learning_rate=learning_rate,
            samples=None,
            alpha=alpha,
            view_noise=NOISE,
            weight_decay=weight_decay,
        )
        times = learning_rate * np.arange(steps)
        solution = solve_ivp(
            lambda t, lam: flow(name, lam, alpha, weight_decay),
            (0, duration * 1.001),
            lam,
            t_eval=times,
            rtol=1e-10,
            atol=1e-12,
        )
        errors.append(abs(result.eigenvalues - solution.y.T).max())
    assert errors[-1] < 1e-3
    np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "samples"), [("iso_euclidean", 3), ("euclidean_no_stop_gradient", 12)]
)
def test_steps_on_factors_and_on_samples_agree_in_law(name, samples):
    keys = jax.random.split(jax.random.key(0), 4_000)
    w = jnp.asarray(make_weights(2, 3), jnp.float32)
    settings = {"learning_rate": 0.1, "alpha": 1.0, "view_noise": jnp.array(NOISE)}

    def whole(key):
        return simulate(name, w, steps=2, samples=samples, key=key, **settings).weights[
            1
        ]

    def one_by_one(key):
        drawn = views.draw_samples(key, inputs=3, samples=samples, dtype=jnp.float32)
        return update_weights(
            w,
            *drawn,
            name=name,
            activation="linear",
            predictor_from="weights",
            weight_decay=0.0,
            **settings,
        )[0]

    a, b = (
        np.asarray(jax.jit(jax.vmap(draw))(keys)).reshape(len(keys), -1)
        for draw in (whole, one_by_one)
    )
    rng = np.random.default_rng(0)
    for direction in rng.normal(size=(4, a.shape[1])):
        assert stats.ks_2samp(a @ direction, b @ direction).pvalue > 1e-3
    distances = [np.linalg.norm(x - a.mean(0), axis=1) for x in (a, b)]
    assert stats.ks_2samp(*distances).pvalue > 1e-3


def test_many_samples_approach_the_population_step(x64):
    settings = {"steps": 30, "view_noise": NOISE}
    expected = simulate("euclidean", samples=None, **settings)
    result = simulate("euclidean", samples=10**8, **settings)
    # One over the square root of the number of samples is 1e-4.
    assert 1e-6 < abs(result.weights - expected.weights).max() < 1e-3


@pytest.mark.parametrize("name", ["iso_euclidean", "cosine"])
def test_views_without_noise_are_trained_on(name):
    result = simulate(name, steps=200, samples=500, view_noise=(0.0, 0.0))
    if name == "iso_euclidean":
        np.testing.assert_allclose(result.eigenvalues[-1], 1, atol=1e-3)
    spread = result.eigenvalues[:, -1] / result.eigenvalues[:, 0]
    assert spread[-1] < 0.6 * spread[0]


def test_without_predictor_and_noise_nothing_moves():
    result = simulate("euclidean_no_predictor", steps=20, view_noise=(0.0, 0.0))
    np.testing.assert_allclose(result.weights, [make_weights()] * 20, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("euclidean", "linear"),
        ("cosine", "linear"),
        ("iso_cosine", "relu"),
    ],
)
def test_eigenvalues_are_those_of_the_weights_beside_them(name, activation, x64):
    result = simulate(name, steps=6, samples=64, alpha=0.5, activation=activation)
    assert result.eigenvalues.shape == (6, OUTPUTS)
    assert result.weights.shape == (6, OUTPUTS, INPUTS)
    assert (np.diff(result.eigenvalues, axis=1) >= 0).all()
    for eigenvalues, w in zip(*map(np.asarray, result), strict=True):
        np.testing.assert_allclose(eigenvalues, power_of(w @ w.T, 0.5)[0], atol=1e-7)


@pytest.mark.parametrize("predictor_from", ["weights", "activations"])
def test_relu_network_learns_with_both_predictors(predictor_from):
    result = simulate(
        "iso_euclidean",
        steps=300,
        samples=500,
        activation="relu",
        predictor_from=predictor_from,
    )
    assert (np.diff(result.eigenvalues, axis=1) >= 0).all()
    spread = result.eigenvalues[:, -1] / result.eigenvalues[:, 0]
    assert spread[-1] < 0.5 * spread[0]


def test_more_outputs_than_inputs_have_zero_eigenvalues():
    result = simulate("iso_euclidean", make_weights(4, 2), steps=50, samples=None)
    np.testing.assert_allclose(result.eigenvalues[:, :2], 0, atol=1e-6)
    assert (result.eigenvalues[-1, 2:] > 0.3).all()


@pytest.mark.parametrize("name", ["euclidean", "cosine"])
def test_a_longer_run_starts_like_a_shorter_one(name, monkeypatch):
    monkeypatch.setattr(networks, "_BLOCK", 10)
    long = simulate(name, steps=27, samples=40)
    short = simulate(name, steps=11, samples=40)
    other = simulate(name, steps=11, samples=40, key=jax.random.key(1))
    np.testing.assert_array_equal(long.weights[:11], short.weights)
    # Every step has draws of its own, and every key.
    moves = np.diff(long.weights, axis=0).reshape(26, -1)
    assert abs(np.corrcoef(moves - moves.mean(0)) - np.eye(26)).max() < 0.98
    assert (other.weights[1:] != short.weights[1:]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("name", ["iso_euclidean", "iso_cosine"])
def test_result_has_the_dtype_of_the_weights(name, x64):
    double = simulate(name, make_weights(), samples=None if "euc" in name else 64)
    single = simulate(
        name,
        make_weights().astype(np.float32),
        samples=None if "euc" in name else 64,
    )
    assert double.weights.dtype == double.eigenvalues.dtype == jnp.float64
    assert single.weights.dtype == single.eigenvalues.dtype == jnp.float32
    np.testing.assert_allclose(single.weights, double.weights, atol=1e-5)


def test_half_precision_weights_are_trained_in_single_precision():
    w = jnp.asarray(make_weights(), jnp.bfloat16)
    result = simulate("euclidean", w, samples=None)
    assert result.weights.dtype == result.eigenvalues.dtype == jnp.float32
    np.testing.assert_array_equal(result.weights[0], w.astype(jnp.float32))


@pytest.mark.parametrize("name", ["euclidean", "cosine"])
def test_jit_and_vmap_agree_with_eager_calls(name):
    keys = jax.random.split(jax.random.key(0), 3)
    rates = jnp.array([0.05, 0.1, 0.2])

    def run(key, rate):
        return simulate(
            name,
            samples=40,
            key=key,
            learning_rate=rate,
            alpha=1.0 + rate,
            view_noise=(rate, 0.1),
            weight_decay=rate,
        )

    mapped = jax.jit(jax.vmap(run))(keys, rates)
    for i in range(3):
        eager = run(keys[i], float(rates[i]))
        np.testing.assert_allclose(mapped.weights[i], eager.weights, atol=1e-6)
        np.testing.assert_allclose(mapped.eigenvalues[i], eager.eigenvalues, atol=1e-6)


def test_other_numbers_need_no_other_compilation():
    simulate("euclidean", samples=None)
    before = networks._simulate._cache_size()
    simulate("euclidean", samples=None, learning_rate=0.2, alpha=0.5)
    simulate("euclidean", samples=None, view_noise=NOISE, weight_decay=0.1)
    assert networks._simulate._cache_size() == before


def test_divergence_is_reported_with_its_step():
    name = "iso_euclidean"
    settings = {"steps": 60, "learning_rate": 30.0, "samples": None}
    with pytest.raises(FloatingPointError, match="learning_rate than 30.0") as error:
        simulate(name, **settings)
    message = str(error.value)
    assert message.startswith(f"{name} diverges")
    bad = int(re.search(r"step (\d+);", message)[1])
    # Within a trace the rows are there to see.
    traced = jax.jit(lambda w: simulate(name, w, **settings))(
        jnp.asarray(make_weights(), jnp.float32)
    )
    finite = np.isfinite(traced.eigenvalues).all(1)
    finite &= np.isfinite(traced.weights).all((1, 2))
    assert 0 < bad < 60
    assert finite[:bad].all() and not finite[bad]
    assert np.isnan(traced.eigenvalues[-1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "euclid"}, "name='euclid' .*" + ", ".join(NAMES)),
        ({"activation": "tanh"}, "activation='tanh' .*linear, relu"),
        ({"predictor_from": "z"}, "predictor_from='z' .*weights, activations"),
        ({"weights": np.ones(3)}, r"weights .*\(3,\)"),
        ({"weights": np.ones((2, 0))}, r"weights .*\(2, 0\)"),
        ({"weights": np.ones((2, 2), np.complex64)}, "weights .*complex64"),
        ({"weights": np.full((2, 2), np.nan)}, "weights .*NaN"),
        ({"alpha": 0}, "alpha=0 "),
        ({"alpha": float("nan")}, "alpha=nan "),
        ({"learning_rate": 0.0}, "learning_rate=0.0 "),
        ({"learning_rate": float("inf")}, "learning_rate=inf "),
        ({"view_noise": (-0.1, 0.1)}, "view_noise=-0.1 "),
        ({"view_noise": (0.1, -0.2)}, "view_noise=-0.2 "),
        ({"view_noise": 0.1}, "view_noise=0.1 is not a pair"),
        ({"view_noise": (0, 0.1, 0.2)}, "is not a pair"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 "),
        ({"key": None}, "key=None needs samples=None"),
        ({"steps": 0}, "steps=0 "),
        ({"steps": 2.0}, "steps=2.0 "),
        ({"samples": 0}, "samples=0 "),
        ({"samples": 10.5}, "samples=10.5 "),
        ({"samples": None, "activation": "relu"}, "samples=None .*activation='relu'"),
        (
            {"samples": None, "name": "cosine"},
            "samples=None .*name='cosine'.*" + ", ".join(EUCLIDEAN),
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {"name": "euclidean", "weights": make_weights()} | arguments
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)
