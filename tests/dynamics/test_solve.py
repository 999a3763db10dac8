import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from isojax.dynamics import solve
from isojax.dynamics.flow import FLOWS, eigenvalue_flow, log_flow
from isojax.dynamics.solve import solve_eigenvalues

pytestmark = pytest.mark.usefixtures("x64")

START = np.array([1e-3, 0.05, 0.2, 0.6, 1.0, 1.3, 4.0])
TIMES = np.linspace(0, 8, 9)
SETTINGS = [
    {},
    {"alpha": 0.5, "rate": 0.7, "weight_decay": 0.1},
    {"view_noise": (0.5, 0.3)},
    {"weight_decay": 0.3},
]


compiled_log_flow = jax.jit(log_flow)


def integrate(name, start, times, *, method="DOP853", **settings):
    """Solves the flow with another library's solver, in log(lam)."""
    defaults = {"alpha": 1.0, "rate": 1.0, "view_noise": (0, 0), "weight_decay": 0.0}
    # As arrays, with which one compiled flow serves all settings.
    numbers = jax.tree.map(lambda value: jnp.asarray(value, float), defaults | settings)
    solution = solve_ivp(
        lambda _, y: np.asarray(
            compiled_log_flow(FLOWS[name], jnp.asarray(y), **numbers)
        ),
        (times[0], times[-1]),
        np.log(start),
        method=method,
        rtol=1e-11,
        atol=1e-11,
        t_eval=times,
    )
    return np.exp(solution.y.T)


# Each is compiled once more with view noise.
SLOW = {"iso_cosine", "cosine_near_uniform", "cosine_no_predictor"}
FLOWS_OF_SETTINGS = [
    pytest.param(
        *case,
        id=f"{case[0]}-{case[1]}",
        marks=[pytest.mark.slow] if case[0] in SLOW and "view_noise" in case[1] else [],
    )
    for case in itertools.product(FLOWS, SETTINGS)
]


@pytest.mark.parametrize(("name", "settings"), FLOWS_OF_SETTINGS)
def test_solutions_follow_the_flow(name, settings):
    # Weak modes vanish faster than exponentially there, and lose their digits.
    times = TIMES / 8 if name == "cosine_no_stop_gradient" else TIMES
    solution = solve_eigenvalues(name, jnp.array(START), jnp.array(times), **settings)
    assert solution.shape == (len(times), len(START))
    expected = integrate(name, START, times, **settings)
    np.testing.assert_allclose(solution, expected, rtol=2e-6)


def test_the_iso_euclidean_solution_is_the_logistic():
    solution = solve_eigenvalues("iso_euclidean", jnp.array(START), jnp.array(TIMES))
    growth = np.exp(2 * TIMES)[:, None]
    np.testing.assert_allclose(
        solution, START * growth / (1 + START * (growth - 1)), rtol=1e-12
    )


def test_the_euclidean_solution_is_lamberts():
    start = np.array([0.01, 0.2, 0.6, 1.3, 50.0])
    solution = solve_eigenvalues("euclidean", jnp.array(start), jnp.array(TIMES))
    y = 1 / start - 1
    w = lambertw(y * np.exp(y - 2 * TIMES[:, None])).real
    np.testing.assert_allclose(solution, 1 / (1 + w), rtol=1e-11)


def test_every_euclidean_eigenvalue_reaches_one():
    for name in ("euclidean", "iso_euclidean"):
        last = solve_eigenvalues(name, jnp.array(START), jnp.array([0.0, 1e6]))[-1]
        np.testing.assert_allclose(last, 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["euclidean", "iso_euclidean"])
def test_the_fixed_point_stays_and_is_differentiable(name):
    def last(lam):
        return solve_eigenvalues(name, lam, jnp.array([1.0]))[0]

    np.testing.assert_allclose(last(jnp.array([1.0])), 1, rtol=1e-15)
    slope = jax.jacrev(last)(jnp.array([1.0]))
    np.testing.assert_allclose(slope, [[np.exp(-2)]], rtol=1e-12)


def test_a_closed_form_without_growth_is_the_limit():
    settings = {"weight_decay": 1.0}
    start, times = jnp.array(START), jnp.array(TIMES)
    solution = solve_eigenvalues("iso_euclidean", start, times, **settings)
    np.testing.assert_allclose(solution, START / (1 + 2 * START * TIMES[:, None]))


def test_the_iso_euclidean_solution_shrinks_where_decay_exceeds_growth():
    start, times = jnp.array(START), jnp.array(TIMES)
    solution = solve_eigenvalues("iso_euclidean", start, times, weight_decay=1.5)
    shrunk = np.exp(-0.5 * 2 * TIMES)[:, None]
    expected = 0.5 * START * shrunk / (0.5 + START * (1 - shrunk))
    np.testing.assert_allclose(solution, expected, rtol=1e-12)


def test_a_closed_form_without_growth_has_the_gradient_of_its_neighbours():
    def last(decay):
        start, times = jnp.array(START), jnp.array([2.0])
        return solve_eigenvalues(
            "iso_euclidean", start, times, weight_decay=decay, view_noise=(0.5, 0.0)
        )[0]

    slope = jax.jacrev(last)(1.0)
    difference = (last(1.0 + 1e-5) - last(1.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_the_cosine_losses_make_eigenvalues_equal_and_keep_their_sum():
    start, times = jnp.array([0.1, 0.5, 0.9]), jnp.array([0.0, 50.0, 500.0])
    cosine = solve_eigenvalues("cosine", start, times)
    np.testing.assert_allclose(cosine.sum(1), 1.5, rtol=1e-7)
    np.testing.assert_allclose(cosine[-1], 0.5, rtol=1e-6)
    iso = solve_eigenvalues("iso_cosine", start, times)
    np.testing.assert_allclose((iso**2).sum(1), 1.07, rtol=1e-7)
    np.testing.assert_allclose(iso[-1], np.sqrt(1.07 / 3), rtol=1e-6)


def test_view_noise_preserves_the_sum_of_the_cosine_loss():
    # Compiled by test_solutions_follow_the_flow.
    start, times = jnp.array(START), jnp.array(TIMES)
    solution = solve_eigenvalues("cosine", start, times, view_noise=(0.5, 0.3))
    np.testing.assert_allclose(solution.sum(1), START.sum(), rtol=1e-7)


COSINE = [name for name in FLOWS if "cosine" in name]


# Under a transformation both solvers are compiled, which is slow for the cosine losses.
# The losses differ in their flows only, whose transformations test_flow.py covers.
@pytest.mark.parametrize(
    "name",
    [
        "euclidean",
        "iso_euclidean",
        "euclidean_no_stop_gradient",
        *(pytest.param(name, marks=pytest.mark.slow) for name in COSINE),
    ],
)
def test_transformations(name):
    times = jnp.linspace(0, 2, 3)
    starts = jnp.array([[0.2, 0.5, 1.2], [0.1, 0.3, 0.7]])
    alphas = jnp.array([0.5, 1.0])

    def solution(start, alpha):
        return solve_eigenvalues(name, start, times, alpha=alpha)

    mapped = jax.jit(jax.vmap(solution))(starts, alphas)
    for i in range(2):
        np.testing.assert_allclose(
            mapped[i], solution(starts[i], float(alphas[i])), rtol=2e-7
        )


# Gradients through the solvers are also those of
# test_transformations_where_the_implicit_solver_continues.
@pytest.mark.parametrize(
    "name",
    [
        "euclidean",
        "iso_euclidean",
        pytest.param("euclidean_no_stop_gradient", marks=pytest.mark.slow),
        pytest.param("cosine", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_finite_differences(name):
    def last(start):
        return solve_eigenvalues(name, start, jnp.array([2.0]), alpha=0.5)[0]

    start = jnp.array([0.2, 0.5, 1.2])
    jacobian = jax.jit(jax.jacrev(last))(start)
    for j, step in enumerate(1e-3 * jnp.eye(3)):
        difference = (last(start + step) - last(start - step)) / 2e-3
        np.testing.assert_allclose(jacobian[:, j], difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_float32_follows_vanishing_modes(name):
    # lam^3 of the first mode underflows in float32, and without stop-gradient all
    # modes but one vanish within these times, faster and faster.
    start = np.array([1e-20, 1e-3, 0.05, 0.2, 0.6, 1.0, 4.0])
    wide = solve_eigenvalues(name, jnp.array(start), jnp.array(TIMES))
    with jax.enable_x64(False):
        solution = solve_eigenvalues(name, jnp.array(start), jnp.array(TIMES))
    assert solution.dtype == jnp.float32
    np.testing.assert_allclose(solution, wide, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("largest", [100.0, 1e6])
@pytest.mark.parametrize("name", ["euclidean", "euclidean_no_stop_gradient"])
def test_large_eigenvalues_are_followed(name, largest):
    start, times = jnp.array([largest, 0.5]), jnp.array([0.0, 0.1, 1.0])
    settings = {"weight_decay": 1e-3}
    wide = solve_eigenvalues(name, start, times, **settings)
    np.testing.assert_allclose(wide[0], start, rtol=1e-12)
    single = solve_eigenvalues(name, jnp.float32(start), times, **settings)
    np.testing.assert_allclose(single, wide, rtol=1e-3)


def test_the_euclidean_solution_keeps_its_digits_far_above_the_fixed_point():
    start = np.array([3.0, 1e2, 1e4, 1e6])
    times = np.array([0.0, 1e-9, 1e-3, 0.1, 1.0])
    expected = integrate("euclidean", start, times)
    solution = solve_eigenvalues("euclidean", jnp.array(start), jnp.array(times))
    np.testing.assert_allclose(solution, expected, rtol=1e-9)
    np.testing.assert_allclose(solution[0], start, rtol=1e-14)
    single = solve_eigenvalues("euclidean", jnp.float32(start), jnp.float32(times))
    np.testing.assert_allclose(single, expected, rtol=1e-5)


def test_gradients_of_a_long_decay_are_finite():
    def solution(lam, decay):
        times = jnp.array([0.0, 1.0, 50.0])
        return solve_eigenvalues("iso_euclidean", lam, times, weight_decay=decay)

    lam = jnp.array([0.2, 1.0])
    wide = jax.jacrev(solution, argnums=(0, 1))(lam, 2.0)
    single = jax.jacrev(solution, argnums=(0, 1))(jnp.float32(lam), jnp.float32(2))
    for found, expected in zip(single, wide, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("name", ["euclidean_no_stop_gradient", "euclidean"])
@pytest.mark.parametrize("setting", ["alpha", "rate", "weight_decay"])
def test_a_wide_setting_does_not_widen_the_solution(name, setting):
    start, times = jnp.float32([0.2, 0.5]), jnp.float32([0.0, 1.0])
    settings = {setting: jnp.float64(0.5)}
    for flow in (name, "cosine"):
        assert eigenvalue_flow(flow, start, **settings).dtype == jnp.float32
    solution = solve_eigenvalues(name, start, times, **settings)
    assert solution.dtype == jnp.float32
    plain = solve_eigenvalues(name, start, times, **{setting: 0.5})
    np.testing.assert_allclose(solution, plain, rtol=1e-5)


def test_times_need_not_start_at_zero():
    start = jnp.array([0.2, 0.5])
    for name in ("iso_euclidean", "euclidean_no_stop_gradient"):
        whole = solve_eigenvalues(name, start, jnp.array([0.0, 1.0, 2.0]))
        late = solve_eigenvalues(name, start, jnp.array([2.0]))
        np.testing.assert_allclose(whole[2:], late, rtol=1e-7)
        at_start = solve_eigenvalues(name, start, jnp.array([0.0]))
        np.testing.assert_allclose(at_start, start[None], rtol=1e-15)


@pytest.mark.parametrize(
    "times", [[1.0, 1.0], [2.0, 1.0], [-1.0, 1.0], [np.nan], [0, np.inf]]
)
def test_bad_times(times):
    with pytest.raises(ValueError, match="times=.*increasing"):
        solve_eigenvalues("cosine", jnp.array([0.1, 0.2]), jnp.array(times, float))


def test_bad_input():
    start = jnp.array([0.1, 0.2])
    with pytest.raises(ValueError, match="iso_cosine"):
        solve_eigenvalues("cos", start, jnp.array(TIMES))
    with pytest.raises(ValueError, match="eigenvalues=.*positive"):
        solve_eigenvalues("cosine", -start, jnp.array(TIMES))
    for times in ("0", jnp.array([], float)):
        with pytest.raises(ValueError, match="times must be"):
            solve_eigenvalues("cosine", start, times)
    with pytest.raises(ValueError, match=r"times .*\(2, 2\)"):
        solve_eigenvalues("cosine", start, jnp.ones((2, 2)))


STIFF = [
    ("iso_cosine", [0.1, 0.5, 0.9], 40.0, {"weight_decay": 0.05}),
    ("iso_cosine", [0.01, 0.05, 3.0], 40.0, {"weight_decay": 0.1, "alpha": 0.5}),
    ("cosine", [0.1, 0.5, 0.9], 40.0, {"weight_decay": 0.3}),
    ("cosine", [0.1, 0.5, 0.9], 40.0, {"weight_decay": 0.3, "alpha": 0.5}),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "start", "end", "settings"), STIFF)
def test_stiff_flows_are_followed(name, start, end, settings):
    start, times = np.array(start), np.array([0.0, end / 4, end])
    expected = integrate(name, start, times, method="LSODA", **settings)
    solution = solve_eigenvalues(name, jnp.array(start), jnp.array(times), **settings)
    np.testing.assert_allclose(solution, expected, rtol=1e-6)


# A stiff flow, which compiles for a minute, and another one with few explicit steps and
# a number of modes that no other test compiles with more of them.
@pytest.mark.parametrize(
    ("name", "start", "explicit_steps"),
    [
        pytest.param(
            "euclidean_no_stop_gradient",
            [0.1, 0.5, 0.9, 1.2],
            6,
            marks=pytest.mark.long,
        ),
        pytest.param("iso_cosine", [0.1, 0.5, 0.9], 256, marks=pytest.mark.slow),
    ],
)
def test_transformations_where_the_implicit_solver_continues(
    name, start, explicit_steps, monkeypatch
):
    monkeypatch.setattr(solve, "_EXPLICIT_STEPS", explicit_steps)
    times, start = jnp.array([0.0, 10.0, 40.0]), jnp.array(start)

    def log_solution(decay):
        solution = solve_eigenvalues(name, start, times, weight_decay=decay)
        return jnp.log(solution)

    decays = jnp.array([0.05, 0.001])
    values, slopes = jax.jit(
        jax.vmap(jax.value_and_grad(lambda d: log_solution(d)[2, 0]))
    )(decays)
    for decay, value, slope in zip(decays, values, slopes, strict=True):
        np.testing.assert_allclose(value, log_solution(float(decay))[2, 0], rtol=1e-6)
        step = 1e-4
        above, below = (log_solution(float(decay + d))[2, 0] for d in (step, -step))
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-4)


@pytest.mark.long
def test_a_failed_solution_is_reported_with_its_time(monkeypatch):
    monkeypatch.setattr(solve, "_EXPLICIT_STEPS", 6)
    monkeypatch.setattr(solve, "_IMPLICIT_STEPS", 6)
    name = "euclidean_no_stop_gradient"
    message = re.escape(f"{name!r} failed before time 50")
    # Numbers of times that no other test compiles with the usual limits.
    start, times = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.05, 0.1, 50.0, 51.0])
    with pytest.raises(FloatingPointError, match=message):
        solve_eigenvalues(name, start, times, weight_decay=1.0)
    traced = jax.jit(lambda lam: solve_eigenvalues(name, lam, times, weight_decay=1.0))(
        start
    )
    assert np.isfinite(traced[:3]).all()
    assert not np.isfinite(traced[3:]).any()
